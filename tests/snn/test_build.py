"""The C++ kernels' cache and what happens where they cannot be built."""

import logging
import os
import stat
import subprocess
import sys

import pytest

from snn_dt.snn import build
from tests.patience import HANG

SCAN = "import torch; from snn_dt.snn import LIF; print(LIF().rate(torch.linspace(-1, 3, 99), 4).sum().item())"

needs_compiler = pytest.mark.skipif(build.find_compiler() is None, reason="no C++ compiler")


def run(tmp_path, code=SCAN, **env):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SNN_DT_CACHE": str(tmp_path), **env}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@needs_compiler
@pytest.mark.slow
def test_processes_that_build_at_once_agree_and_leave_one_library(tmp_path, tmp_path_factory):
    compiler = tmp_path_factory.mktemp("compiler") / "counted"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {compiler}.calls\nexec {build.find_compiler()} "$@"\n')
    compiler.chmod(0o755)
    processes = [run(tmp_path, SNN_DT_KERNEL="cpp", CXX=str(compiler)) for _ in range(3)]
    results = [p.communicate(timeout=HANG) for p in processes]
    said = "".join(err for _, err in results)
    assert said.startswith("compiling the CPU kernels, once: ")
    assert said.count("\n") == 1
    assert len({out for out, _ in results}) == 1, results
    assert float(results[0][0]) > 0
    (library,) = tmp_path.iterdir()
    assert library.suffix == ".so"
    calls = compiler.with_suffix(".calls").read_text().splitlines()
    assert len(calls) == len(build.SOURCES) + 1, "one builds, the others wait for it"


@needs_compiler
@pytest.mark.slow
def test_a_library_is_built_once_and_again_when_what_it_depends_on_changes(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SNN_DT_CACHE", str(tmp_path))
    first = build.build_library()
    made = first.stat().st_mtime_ns
    assert build.build_library() == first
    assert first.stat().st_mtime_ns == made
    assert caplog.text.count("compiling the CPU kernels") == 1
    monkeypatch.setattr(build, "FLAGS", [*build.FLAGS, "-DANOTHER"])
    assert build.build_library() != first


def failing_compiler(folder):
    path = folder / "failing"
    path.write_text("#!/bin/sh\necho out of cheese >&2\nexit 1\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize("trouble", ["no compiler", "a failing compiler", "a cache that is a file"])
def test_without_a_working_compiler_there_is_no_library_and_the_log_says_why(trouble, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("SNN_DT_CACHE", str(tmp_path / "cache"))
    said = "no C++ compiler"
    if trouble == "no compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
    elif trouble == "a failing compiler":
        monkeypatch.setenv("CXX", failing_compiler(tmp_path))
        said = "out of cheese"
    else:
        monkeypatch.setenv("CXX", failing_compiler(tmp_path))
        (tmp_path / "cache").write_text("")
        said = "cache"
    with caplog.at_level(logging.INFO, "snn_dt.snn.build"):
        assert build.load_library() is None
    assert said in caplog.text
    assert "plain torch" in caplog.text


@pytest.mark.slow
def test_spiking_layers_work_the_same_where_nothing_can_be_compiled(tmp_path):
    plain, chosen = (run(tmp_path, CXX=failing_compiler(tmp_path)), run(tmp_path, SNN_DT_KERNEL="reference"))
    (out, err), (expected, _) = plain.communicate(timeout=HANG), chosen.communicate(timeout=HANG)
    assert out == expected != ""
    assert err.count("\n") == 1, "it says that it compiles"
    _, err = run(tmp_path, CXX=failing_compiler(tmp_path), SNN_DT_KERNEL="cpp").communicate(timeout=HANG)
    assert "backend 'cpp': expected a CPU tensor and a C++ compiler" in err


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A library of one function, built in no time; returns what the function of a loaded one says: 7."""
    source = tmp_path / "tiny.cpp"
    source.write_text('extern "C" int answer() { return 7; }\n')
    for name, value in {"SOURCES": [source], "HEADERS": [], "FLAGS": ["-fPIC"]}.items():
        monkeypatch.setattr(build, name, value)
    monkeypatch.setenv("SNN_DT_CACHE", str(tmp_path / "cache"))
    return lambda: build.load_library().answer()


def plant(library, tmp_path):
    """Put another library, whole and well formed, at `library`; loading it leaves a file `planted`."""
    source = tmp_path / "planted.cpp"
    source.write_text(
        "#include <cstdio>\n"
        f'__attribute__((constructor)) static void run() {{ fopen("{tmp_path}/planted", "w"); }}\n'
        'extern "C" int answer() { return 13; }\n'
    )
    made = tmp_path / "planted.so"
    subprocess.run([build.find_compiler(), "-shared", "-fPIC", str(source), "-o", str(made)], check=True)
    content = made.read_bytes()
    library.unlink(missing_ok=True)
    library.write_bytes(content + build.hashlib.sha256(content).digest())


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_in_a_cache_that_others_can_write_the_library_lies_in_a_private_folder(tmp_path, tiny, mode):
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    plant(cache / f"lif-{build._key(build.find_compiler())}.so", tmp_path)
    assert tiny() == 7
    assert not (tmp_path / "planted").exists()
    folder = build.build_library().parent
    assert folder.parent == cache
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@needs_compiler
@pytest.mark.parametrize("mode", [0o775, 0o757])
def test_a_library_that_others_can_write_is_built_again(tmp_path, tiny, mode):
    library = build.build_library()
    plant(library, tmp_path)
    library.chmod(mode)
    assert tiny() == 7
    assert not (tmp_path / "planted").exists()
    assert stat.S_IMODE(library.stat().st_mode) == 0o755


@needs_compiler
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("whose", ["library", "folder", "private folder"])
def test_a_library_of_another_user_is_not_loaded(tmp_path, tiny, whose):
    library = build.build_library()
    plant(library, tmp_path)
    if whose == "private folder":
        library.parent.chmod(0o777)
        (library.parent / f"kernels-{os.geteuid()}").mkdir()
        os.chown(library.parent / f"kernels-{os.geteuid()}", 12345, 12345)
        plant(library.parent / f"kernels-{os.geteuid()}" / library.name, tmp_path)
    else:
        os.chown(library if whose == "library" else library.parent, 12345, 12345)
    assert tiny() == 7
    assert not (tmp_path / "planted").exists()


@needs_compiler
def test_a_link_in_the_place_of_a_library_is_replaced(tmp_path, tiny):
    library = build.build_library()
    plant(tmp_path / "elsewhere.so", tmp_path)
    library.unlink()
    library.symlink_to(tmp_path / "elsewhere.so")
    assert tiny() == 7
    assert not library.is_symlink()
    assert not (tmp_path / "planted").exists()


@needs_compiler
@pytest.mark.parametrize("damage", ["empty", "cut", "a bit", "text", "a pipe"])
def test_a_damaged_library_is_built_again(tmp_path, tiny, damage, caplog):
    library = build.build_library()
    content = bytearray(library.read_bytes())
    if damage == "a pipe":
        library.unlink()
        os.mkfifo(library)
    else:
        content[len(content) // 2] ^= 1
        cut = content[: len(content) // 2]
        library.write_bytes({"empty": b"", "cut": cut, "a bit": content, "text": b"no library"}[damage])
    assert tiny() == 7
    assert caplog.text.count("compiling the CPU kernels") == 2


@needs_compiler
def test_a_umask_that_lets_the_group_write_does_not_make_each_process_build(tmp_path, tiny, caplog):
    before = os.umask(0o002)
    try:
        assert tiny() == tiny() == 7
    finally:
        os.umask(before)
    assert caplog.text.count("compiling the CPU kernels") == 1
