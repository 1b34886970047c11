"""A data source of one's own is registered under a prefix and loaded like Minari and D4RL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import snn_dt
from snn_dt import Trajectories
from snn_dt.cli.main import main
from snn_dt.data.source import DataSource, Episode, Located, ReadOptions, Source
from snn_dt.errors import ConfigError, DataError
from snn_dt.registry import DATA_SOURCES, register_data_source
from tests.data.toy_episodes import ACTION_BOX, BOX, random_episodes


@pytest.fixture
def registered() -> Iterator[list[str]]:
    names: list[str] = []
    yield names
    for name in names:
        DATA_SOURCES.remove(name)


def test_a_function_that_returns_trajectories_is_a_source(registered):
    register_data_source("toy", lambda name: Trajectories.from_episodes(random_episodes([3, 2]), dataset_id=name))
    registered.append("toy")
    found = snn_dt.load_dataset("toy:some/name:1")
    assert (found.dataset_id, found.n_steps) == ("some/name:1", 5)
    with pytest.raises(DataError, match=r"expected reward_mode 'delayed' .* found 'dense'"):
        snn_dt.load_dataset("toy:x", reward_mode="delayed")


def toy_source(located: Located, options: ReadOptions) -> Source:
    values = np.loadtxt(located.path, delimiter=",")
    episode = Episode(values[:, :3], values[:, 3:5], values[:, 5], True, False)
    facts = {"env_id": None, "env_spec": None, "time_limit": None, "reference": None}
    return Source(located.dataset_id, BOX, ACTION_BOX, n_episodes=1, episodes=lambda: iter([episode]), **facts)


def test_a_source_with_files_is_cached_until_they_change(tmp_path, registered, monkeypatch):
    reads = []

    def locate(name: str, download: bool) -> Located:
        return Located(name, tmp_path / name, [tmp_path / name])

    def read(located: Located, options: ReadOptions) -> Source:
        reads.append(located.dataset_id)
        return toy_source(located, options)

    register_data_source("csv", DataSource(locate, read))
    registered.append("csv")
    np.savetxt(tmp_path / "a.csv", np.full((4, 6), 0.5), delimiter=",")
    for mode in ("dense", "delayed", "dense", "delayed"):
        assert snn_dt.load_dataset("csv:a.csv", reward_mode=mode).rewards[-1] == (0.5 if mode == "dense" else 2)
    assert reads == ["a.csv"] * 2
    np.savetxt(tmp_path / "a.csv", np.full((7, 6), 0.25), delimiter=",")
    assert snn_dt.load_dataset("csv:a.csv").n_steps == 7
    assert main(["data", "info", "csv:a.csv", "--json"]) == 0


def test_a_registered_function_may_return_a_source_for_both_reward_modes(tmp_path, registered):
    np.savetxt(tmp_path / "a.csv", np.full((4, 6), 0.5), delimiter=",")
    register_data_source("raw", lambda name: toy_source(Located(name, tmp_path / name, []), ReadOptions()))
    registered.append("raw")
    assert snn_dt.load_dataset("raw:a.csv", reward_mode="delayed").rewards.tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (lambda name: {"observations": 1}, "expected Trajectories or a Source from the data source of 'x'"),
        (lambda name: Path(name).read_text(), "that it raised FileNotFoundError"),
        (lambda name: Trajectories.from_episodes([]), "has no episode"),
    ],
)
def test_a_source_that_fails_is_one_line(registered, result, expected):
    register_data_source("odd", result)
    registered.append("odd")
    with pytest.raises(DataError) as error:
        snn_dt.load_dataset("odd:x")
    assert expected in str(error.value)


def test_a_prefix_that_is_not_known_or_taken_is_one_line(registered):
    with pytest.raises(DataError, match=r"no dataset at 'hub:x': expected minari:<id>, d4rl:<id>"):
        snn_dt.load_dataset("hub:x")
    register_data_source("toy", lambda name: None)
    registered.append("toy")
    with pytest.raises(DataError, match="expected toy:<name>, minari:<id>"):
        snn_dt.load_dataset("hub:x")
    with pytest.raises(ConfigError, match="'minari' is registered already"):
        register_data_source("minari", lambda name: None)
