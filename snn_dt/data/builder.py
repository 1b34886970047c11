"""From a stream of episodes to flat, checked arrays: one pass, one episode in memory at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.columns import Column, RunningMoments
from snn_dt.data.source import Episode, Source
from snn_dt.data.trajectories import RewardMode
from snn_dt.errors import DataError

Progress = Callable[[int, int], None]  # (episodes done, episodes in all)

CONSTANT_STD = 1e-6  # below it a dimension counts as constant
ACTION_TOLERANCE = 1e-3  # of the Box's range: recorded actions were rounded, not clipped, to float32


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
        observations, actions, rewards = _checked(episode, index, source)
        if reward_mode == "delayed":
            rewards = np.append(np.zeros(len(rewards) - 1), rewards.sum())
        step_data = {
            "observations": observations,
            "actions": actions,
            "rewards": rewards.astype(np.float32),
            "returns_to_go": np.cumsum(rewards[::-1])[::-1].astype(np.float32),
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


def _checked(
    episode: Episode, index: int, source: Source
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float64]]:
    """Return observations [T, obs_dim], actions [T, ...], rewards [T] of one episode, or raise `DataError`."""
    where = f"episode {index} of dataset {source.dataset_id!r}"
    n = len(episode.rewards)
    rewards = np.asarray(episode.rewards, dtype=np.float64)
    if n == 0 or len(episode.actions) != n or len(episode.observations) not in (n, n + 1):
        raise DataError(
            f"{where} has {len(episode.observations)} observations, {len(episode.actions)} actions and {n} rewards: "
            "expected T >= 1 rewards, T actions and T or T + 1 observations; repair or drop the episode"
        )
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes inf and is reported just below
        observations = np.asarray(episode.observations[:n], dtype=np.float32)
    for name, values in (("observations", observations), ("rewards", rewards)):
        finite = np.abs(values) <= np.finfo(np.float32).max  # False for NaN, too
        if not finite.all():
            step = int(np.argwhere(~finite)[0, 0])
            raise DataError(
                f"{where} has NaN or infinite {name} at step {step}: expected finite numbers; repair or drop it"
            )
    return observations, _checked_actions(episode.actions, where, source.action_space), rewards


def _checked_actions(actions: NDArray[Any], where: str, space: Any) -> NDArray[Any]:
    """Return actions as [T, action_dim] float32 or [T] int64, or raise `DataError` for one outside the space."""
    converted: NDArray[Any]
    if hasattr(space, "n"):
        values: NDArray[Any] = np.asarray(actions).reshape(len(actions))
        inside = (values >= space.start) & (values < space.start + space.n) & (values == np.floor(values))
        converted = values.astype(np.int64)
    else:
        low, high = np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)
        slack = ACTION_TOLERANCE * np.where(np.isfinite(high - low), high - low, 1.0)
        values = np.asarray(actions).reshape(len(actions), -1)
        if values.shape[1] != low.size:
            raise DataError(f"{where} has actions of {values.shape[1]} numbers: expected {low.size} for {space}")
        inside = (values >= low - slack) & (values <= high + slack) & np.isfinite(values)
        converted = values.astype(np.float32)
    if not inside.all():
        step = tuple(np.argwhere(~inside)[0])
        raise DataError(
            f"{where} has action {values[step]} at step {step[0]}: expected actions inside {_one_line(space)}; "
            "repair or drop the episode"
        )
    return converted


def _one_line(space: Any) -> str:
    return " ".join(str(space).split())


def _checksum(arrays: dict[str, NDArray[Any]], columns: dict[str, Column]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes of what the data say, in a fixed order."""
    digests = {name: column.digest() for name, column in columns.items() if name != "returns_to_go"}
    for name in ("episode_offsets", "terminated", "truncated"):
        digests[name] = hashlib.sha256(arrays[name].tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
