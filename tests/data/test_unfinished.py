"""Half-written datasets: hidden while a process fills them, gone however it ends, cleared if it was killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from snn_dt.cli.main import main
from snn_dt.data import collect, minari_source
from snn_dt.data.columns import Column
from snn_dt.data.unfinished import ABANDONED, unfinished_folder
from tests.data.toy_episodes import random_episodes


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_collecting_leaves_no_folder(tmp_path, monkeypatch, capsys, signum, status):
    def seen(path):
        assert list((tmp_path / "minari").glob(".collecting-*"))
        assert "collecting" not in "".join(minari_source.local_datasets())
        signal.raise_signal(signum)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(collect, "_compress", seen)
    assert main(["data", "collect", "CartPole-v1", "--id", "a-v0", "--episodes", "2"]) == status
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
    old = left_behind(tmp_path / ".making-old", ABANDONED + 60)
    young = left_behind(tmp_path / ".making-young", ABANDONED - 60)
    growing = left_behind(tmp_path / ".making-growing", ABANDONED + 60)
    os.utime(growing / "data" / "file")
    other = left_behind(tmp_path / "finished", ABANDONED + 60)
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
