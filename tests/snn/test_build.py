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
