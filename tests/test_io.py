"""What is opened is a regular file of a size and depth that fit; anything else in its place is one error, at once."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from snn_dt import io
from snn_dt.errors import CheckpointError, ConfigError, DataError, SnnDtError

ODD_NAMES = ["a\0b", "x" * 300, "\ud800", "x/" * 3000 + "x"]


def put(kind: str, path: Path) -> Path:
    """Put something else in the place of a file, or a link to it."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            here = os.getcwd()
            os.chdir(path.parent)  # the name of a socket is short
            listening.bind(path.name)
            os.chdir(here)
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "link to a pipe":
        path.symlink_to(put("pipe", path.with_name("pipe")))
    else:
        path.symlink_to("/dev/zero")
    return path


KINDS = ["pipe", "folder", "socket", "device", "link to itself", "link to a pipe"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [io.open_file, io.read_bytes, io.read_text, io.read_json, io.require_file])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind, read):
    path = put(kind, tmp_path / "input")
    assert not io.is_file(path)
    with pytest.raises(OSError, match=r"instead of a regular file|symbolic links"):
        read(path)


def test_a_link_to_a_regular_file_is_read(tmp_path):
    (tmp_path / "file").write_text('{"a": [1]}')
    (tmp_path / "link").symlink_to("file")
    assert io.read_json(tmp_path / "link") == {"a": [1]}


def test_a_file_larger_than_the_bound_is_not_read(tmp_path):
    with (tmp_path / "long").open("wb") as file:
        file.truncate(io.MAX_TEXT_BYTES + 1)
    with pytest.raises(OSError, match="a file of more than 16777216 bytes"):
        io.read_text(tmp_path / "long")
    with pytest.raises(OSError, match="a file of more than 5 bytes"):
        io.read_bytes("/proc/self/status", most=5)  # which says that it has none


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_that_no_file_can_have_is_no_file_and_one_line(name):
    assert not io.is_file(name)
    assert not io.is_folder(name)
    with pytest.raises((OSError, ValueError)):
        io.open_file(name)
    with pytest.raises(DataError) as caught:
        io.check_name(name, DataError)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_an_empty_name_is_refused_and_any_other_is_kept():
    with pytest.raises(ConfigError, match="found an empty one"):
        io.check_name("")
    for name in ("a", "ä" * 127, "a b/[red]c[/red]", "/x/" + "y" * 255):
        assert io.check_name(name) == Path(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 100_000, "levels of nesting"),
        ('{"a":' * 100_000, "levels of nesting"),
        ("[" * (io.MAX_DEPTH + 2) + "]" * (io.MAX_DEPTH + 2), "levels of nesting"),
        ("1" * 5000, "4300 digits"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' twice"),
        ("{", "Expecting"),
        ("", "Expecting"),
        (b"\xff\xfe\xff", "codec"),
    ],
)
def test_json_that_cannot_be_used_is_a_value_error(text, expected):
    with pytest.raises(ValueError, match=expected):
        io.parse_json(text)


@pytest.mark.parametrize("text", ["NaN", "[1, {}, -Infinity]", '{"a": [1e999]}'])
def test_numbers_that_are_none_are_refused_where_that_is_asked_for(text):
    io.parse_json(text)
    with pytest.raises(ValueError, match="expected finite numbers, found"):
        io.parse_json(text, finite=True)


def test_a_dictionary_of_many_keys_is_looked_through_in_one_go():
    text = "{" + ", ".join(f'"{i}": 0' for i in range(200_000)) + ', "7": 1}'
    with pytest.raises(ValueError, match="'7' twice"):
        io.parse_json(text)


def test_a_user_without_a_home_gets_a_private_folder(tmp_path, monkeypatch):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr(io.tempfile, "gettempdir", lambda: str(tmp_path))
    io.private_folder.cache_clear()
    try:
        home = io.home()
        assert home == io.home()
        assert home.parent == tmp_path
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert io.expand("~/x/y") == home / "x" / "y"
        with pytest.raises(DataError, match="no user 'nosuchuser'; write the folder out"):
            io.expand("~nosuchuser/x", DataError)
    finally:
        io.private_folder.cache_clear()


@pytest.mark.parametrize("taken", ["file", "open to all", "link"])
def test_a_private_folder_that_another_may_have_made_is_not_used(tmp_path, monkeypatch, taken):
    monkeypatch.setattr(io.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(io.tempfile, "tempdir", str(tmp_path))
    name = tmp_path / f"snn_dt-{os.getuid()}"
    if taken == "file":
        name.touch()
    elif taken == "link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        name.symlink_to("elsewhere")
    else:
        name.mkdir()
        name.chmod(0o777)
    io.private_folder.cache_clear()
    try:
        folder = io.private_folder()
        assert folder != name
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        io.private_folder.cache_clear()


@pytest.mark.skipif(not hasattr(os, "setuid") or os.getuid() != 0, reason="only root can become another user")
def test_a_user_without_a_name_or_home_can_look_at_datasets(tmp_path):
    code = (
        "import os; os.setuid(54321)\n"
        "from snn_dt.io import cache_root\n"
        "from snn_dt.data import d4rl_source, minari_source\n"
        "print(cache_root(), minari_source.local_datasets() is None, d4rl_source.local_datasets())\n"
    )
    keep = {k: v for k, v in os.environ.items() if k not in ("HOME", "SNN_DT_CACHE", "D4RL_DATASET_DIR")}
    tmp_path.chmod(0o777)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**keep, "TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )
    if "Permission denied" in done.stderr or "No module named" in done.stderr:
        pytest.skip("the package lies where another user cannot read it")
    assert done.returncode == 0, done.stderr
    assert "snn_dt-54321" in done.stdout


def test_a_cache_of_a_user_that_is_not_there_is_one_line(monkeypatch):
    from snn_dt.io import cache_root

    monkeypatch.setenv("SNN_DT_CACHE", "~nosuchuser/cache")
    with pytest.raises(SnnDtError, match="no user 'nosuchuser'"):
        cache_root()


def test_only_what_others_cannot_write_is_ours(tmp_path):
    path = tmp_path / "file"
    assert not io.only_ours(path)
    path.touch()
    for mode, ours in ((0o644, True), (0o700, True), (0o664, False), (0o646, False), (0o1777, False)):
        path.chmod(mode)
        assert io.only_ours(path) is ours


@pytest.mark.parametrize("content", ["text\n", b"\x00bytes"])
def test_a_result_is_written_whole_or_refused_in_one_line(tmp_path, content):
    path = tmp_path / ("n" * 250)
    io.write_file(path, "old")
    io.write_file(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CheckpointError, match=r"expected to write .*; free space or choose another place"):
        io.write_file(tmp_path / "missing" / "file", content)


def test_a_folder_for_results_is_made_or_refused_in_one_line(tmp_path):
    io.writable_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(CheckpointError, match=r"expected a folder that can be written at .*; choose another one"):
            io.writable_folder(place)
