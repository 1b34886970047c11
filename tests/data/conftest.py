"""Small synthetic datasets, and a cache of its own for every test."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snn_dt.data.cache import build_in_memory
from snn_dt.data.source import Episode, Source
from snn_dt.data.trajectories import Trajectories
from tests.data.toy_episodes import ACTION_BOX, BOX, random_episodes


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test off the user's cache and datasets."""
    monkeypatch.setenv("SNN_DT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))


@pytest.fixture
def minari_set(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes episodes as a real Minari dataset and returns its folder."""

    def write(
        episodes: list[dict[str, Any]],
        dataset_id: str = "toy/set-v0",
        observation_space: Any = BOX,
        action_space: Any = ACTION_BOX,
        **metadata: Any,
    ) -> Path:
        import minari
        from minari.data_collector.episode_buffer import EpisodeBuffer

        about = {"author": "me", "author_email": "none", "code_permalink": "none", "algorithm_name": "none"}
        with warnings.catch_warnings(action="ignore"):  # it would like a description and an environment, too
            minari.create_dataset_from_buffers(
                dataset_id,
                [EpisodeBuffer(id=index, **episode) for index, episode in enumerate(episodes)],
                observation_space=observation_space,
                action_space=action_space,
                **about | metadata,
            )
        return tmp_path / "minari" / dataset_id

    return write


@pytest.fixture
def trajectories() -> Callable[..., Trajectories]:
    """Return a function that builds trajectories in memory from episode lengths."""

    def make(lengths: list[int], seed: int = 0, action_space: Any = ACTION_BOX, **changes: Any) -> Trajectories:
        episodes = random_episodes(lengths, seed, action_space)
        reward_mode = changes.pop("reward_mode", "dense")
        for name, values in changes.items():
            for episode, value in zip(episodes, values, strict=True):
                episode[name] = value
        stream = [
            Episode(e["observations"], e["actions"], e["rewards"], e["terminations"][-1], e["truncations"][-1])
            for e in episodes
        ]
        source = Source("toy", BOX, action_space, None, None, None, None, len(stream), lambda: iter(stream))
        return build_in_memory(source, reward_mode)

    return make
