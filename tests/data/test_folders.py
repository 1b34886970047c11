"""Half-written datasets: hidden while a process fills them, gone however it ends, cleared if it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import snn_dt
from snn_dt.cli.main import main
from snn_dt.data import collect, minari_source
from snn_dt.data.columns import Column
from snn_dt.folders import ABANDONED_SECONDS, clear_abandoned, unfinished_folder
from tests.data.toy_episodes import random_episodes


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_collecting_leaves_no_folder(tmp_path, monkeypatch, capsys, signum, status):
    def seen(path):
        assert list((tmp_path / "minari").glob(".collecting-*"))
        assert "collecting" not in "".join(minari_source.local_datasets())
        signal.raise_signal(signum)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(collect, "_compress", seen)
    # A process that a shell started in the background ignores Ctrl-C.
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["data", "collect", "CartPole-v1", "--id", "a-v0", "--episodes", "2"]) == status
    finally:
        signal.signal(signal.SIGINT, interrupt)
    assert list((tmp_path / "minari").iterdir()) == []
    assert capsys.readouterr().err == "snn-dt: interrupted\n"
    assert signal.getsignal(signal.SIGTERM) == before


def test_sigterm_while_a_cache_is_built_leaves_no_folder(minari_set, tmp_path, monkeypatch):
    folder = minari_set(random_episodes([3, 4]))
    monkeypatch.setattr(Column, "append", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert main(["data", "cache", str(folder)]) == 128 + signal.SIGTERM
    assert list((tmp_path / "cache" / "datasets").iterdir()) == []


def left_behind(folder: Path, age: float) -> Path:
    """A folder with a file, both last written `age` seconds ago."""
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "file").touch()
    for path in (folder / "data" / "file", folder / "data", folder):
        os.utime(path, (0, time.time() - age))
    return folder


def test_what_a_killed_process_left_is_removed_once_nothing_writes_to_it_for_a_week(tmp_path):
    old = left_behind(tmp_path / ".making-old", ABANDONED_SECONDS + 60)
    young = left_behind(tmp_path / ".making-young", ABANDONED_SECONDS - 60)
    growing = left_behind(tmp_path / ".making-growing", ABANDONED_SECONDS + 60)
    os.utime(growing / "data" / "file")
    other = left_behind(tmp_path / "finished", ABANDONED_SECONDS + 60)
    with unfinished_folder(tmp_path, ".making-") as mine:
        assert not old.exists()
        assert mine.exists()
    assert sorted(tmp_path.iterdir()) == sorted([young, growing, other])


def test_hidden_folders_are_no_datasets(minari_set):
    left_behind(minari_set(random_episodes([3]), "toy/set-v0").parent / ".collecting-x", 0)
    left_behind(minari_source.roots()[0] / ".hidden" / "set-v0", 0)
    found = [
        name for name, folder in minari_source.local_datasets().items() if minari_source.roots()[0] in folder.parents
    ]
    assert found == ["toy/set-v0"]


MAKE = """
import sys, time
from pathlib import Path
from snn_dt.folders import unfinished_folder
with unfinished_folder(Path(sys.argv[1]), ".making-") as folder:
    (folder / "half").touch()
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="the system names no start of its own")
def test_what_a_killed_process_left_goes_at_the_next_start_and_what_a_live_one_fills_stays(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", MAKE, tmp_path], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        killed, alive = (Path(process.stdout.readline().decode().strip()) for process in processes)
        processes[0].kill()
        processes[0].wait()
        assert killed.is_dir()
        with unfinished_folder(tmp_path, ".making-") as mine:
            assert not killed.exists()
            assert (alive / "half").exists()
            clear_abandoned(tmp_path, ".making-")
            assert mine.exists()
        assert [*tmp_path.iterdir()] == [alive]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()


def test_a_start_that_builds_nothing_clears_the_cache_too(minari_set, tmp_path):
    folder = minari_set(random_episodes([3, 4]))
    snn_dt.load_dataset(folder)
    old = left_behind(tmp_path / "cache" / "datasets" / ".building-old", ABANDONED_SECONDS + 60)
    snn_dt.load_dataset(folder)
    assert not old.exists()
