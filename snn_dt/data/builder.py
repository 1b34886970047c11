"""From a stream of episodes to flat, checked arrays: one pass, one episode in memory at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.checks import check_finite, checked
from snn_dt.data.columns import Column, RunningMoments
from snn_dt.data.source import Source
from snn_dt.data.trajectories import RewardMode
from snn_dt.errors import DataError

Progress = Callable[[int, int], None]  # (episodes done, episodes in all)

CONSTANT_STD = 1e-6  # below it a dimension counts as constant


def build(
    source: Source, folder: Path | None, reward_mode: RewardMode, progress: Progress | None = None
) -> tuple[dict[str, NDArray[Any]], str]:
    """Read every episode of `source` and return (the arrays of `Trajectories`, checksum).

    The per-step arrays stream into `.npy` files of `folder` and come back memory-mapped; without a folder they stay in
    memory. Raises `DataError` for an episode that cannot be learned from, `OSError` when the folder cannot be written.
    """
    columns: dict[str, Column] = {}
    lengths, terminated, truncated = [], [], []
    moments = RunningMoments()
    for index, episode in enumerate(source.episodes()):
        where = f"episode {index} of dataset {source.dataset_id!r}"
        observations, actions, rewards = checked(episode, where, source)
        if reward_mode == "delayed":
            rewards = np.append(np.zeros(len(rewards) - 1), rewards.sum())
        returns_to_go = np.cumsum(rewards[::-1])[::-1]
        check_finite("returns-to-go", returns_to_go, where)
        step_data = {
            "observations": observations,
            "actions": actions,
            "rewards": rewards.astype(np.float32),
            "returns_to_go": returns_to_go.astype(np.float32),
        }
        for name, block in step_data.items():
            if name not in columns:
                columns[name] = Column(folder and folder / f"{name}.npy", block.dtype, block.shape[1:])
            columns[name].append(block)
        moments.update(observations)
        lengths.append(len(rewards))
        terminated.append(episode.terminated)
        truncated.append(episode.truncated)
        if progress:
            progress(index + 1, source.n_episodes)
    if not lengths:
        raise DataError(f"dataset {source.dataset_id!r} has no episode: expected at least one complete episode")
    mean, std = moments.mean, moments.std
    std[std < CONSTANT_STD] = 1.0  # 0 after normalisation; a rollout that leaves the constant is not blown up
    arrays: dict[str, NDArray[Any]] = {
        "episode_offsets": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        "terminated": np.array(terminated, dtype=np.bool_),
        "truncated": np.array(truncated, dtype=np.bool_),
        "state_mean": mean.astype(np.float32),
        "state_std": std.astype(np.float32),
    }
    checksum = _checksum(arrays, columns)
    if folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
    return {name: column.finish() for name, column in columns.items()} | arrays, checksum


def _checksum(arrays: dict[str, NDArray[Any]], columns: dict[str, Column]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of what the data say, in a fixed order."""
    digests = {name: column.digest() for name, column in columns.items() if name != "returns_to_go"}
    for name in ("episode_offsets", "terminated", "truncated"):
        digests[name] = hashlib.sha256(arrays[name].tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
