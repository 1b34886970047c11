"""Build flat and checked arrays from a stream of episodes, with one episode in memory at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.checks import as_rows, check_finite, checked
from snn_dt.data.columns import Column, RunningMoments, digest
from snn_dt.data.encoding import number_columns, parts
from snn_dt.data.images import find_image, numbers_of
from snn_dt.data.normalisation import is_wide, needs_float64, scales
from snn_dt.data.source import Source
from snn_dt.data.survey import Survey
from snn_dt.data.trajectories import RewardMode
from snn_dt.errors import DataError

Progress = Callable[[int, int], None]  # (episodes done, episodes in all)


class Built(NamedTuple):
    """A dataset as arrays."""

    arrays: dict[str, NDArray[Any]]  # of `Trajectories`
    checksum: str
    digests: dict[str, str]  # `columns.digest` of each array
    notes: tuple[str, ...]  # warnings, one line each


def build(source: Source, folder: Path | None, reward_mode: RewardMode, progress: Progress | None = None) -> Built:
    """Read every episode of `source`.

    The arrays [N, ...] are written to `.npy` files in `folder` and returned memory-mapped. Without a folder they stay
    in memory. Observations are float32. If that loses the variation of a column, the source is read again as float64.

    Raises:
        DataError: an episode cannot be learned from.
        OSError: the folder cannot be written.
    """
    return _read(source, folder, reward_mode, progress, np.dtype(np.float32)) or cast(
        Built, _read(source, folder, reward_mode, progress, np.dtype(np.float64))
    )


def _read(
    source: Source, folder: Path | None, reward_mode: RewardMode, progress: Progress | None, stored: np.dtype[Any]
) -> Built | None:
    """Read every episode with observations of type `stored`. Return None if float32 is too narrow."""
    columns: dict[str, Column] = {}
    lengths, terminated, truncated = [], [], []
    moments, original, survey = RunningMoments(), RunningMoments(), Survey(source)
    dtype, image = stored, find_image(source.observation_space)
    for index, episode in enumerate(source.episodes()):
        where = f"episode {index} of dataset {source.dataset_id!r}"
        episode = as_rows(episode, where, source)
        observations, actions, rewards = checked(episode, where, source)
        # Counted before conversion, on the numbers of the file.
        survey.add(episode)
        if reward_mode == "delayed":
            rewards = np.append(np.zeros(len(rewards) - 1), rewards.sum())
        elif reward_mode == "clipped":
            rewards = np.clip(rewards, -1, 1)
        returns_to_go = np.cumsum(rewards[::-1])[::-1]  # [T], sum of this and all later rewards
        check_finite("returns-to-go", returns_to_go, where)
        step_data = {
            "observations": observations if image else observations.astype(stored),
            "actions": actions,
            "rewards": rewards.astype(np.float32),
            "returns_to_go": returns_to_go.astype(np.float32),
        }
        for name, block in step_data.items():
            if name not in columns:
                columns[name] = Column(folder and folder / f"{name}.npy", block.dtype, block.shape[1:])
            columns[name].append(block)
        numbers = step_data["observations"]
        if image:  # statistics are those of the numbers beside it, which are float32
            numbers = numbers[:, : numbers.shape[1] - image.pixels].view(np.float32)
        moments.update(numbers)
        # Moments of the wide numbers tell whether float32 loses them.
        dtype = np.asarray(episode.observations).dtype if image is None else stored
        if is_wide(dtype) and stored == np.float32:
            original.update(observations)
        lengths.append(len(rewards))
        terminated.append(episode.terminated)
        truncated.append(episode.truncated)
        if progress:
            progress(index + 1, source.n_episodes)
    if not lengths:
        raise DataError(f"dataset {source.dataset_id!r} has no episode: expected at least one complete episode")
    if len(original.mean) and needs_float64(original).any():  # only float32 fills `original`
        for column in columns.values():
            column.finish()
        return None
    mean, std, scale_notes = scales(moments, dtype, stored)
    plain = number_columns(parts(source.observation_space))
    plain = plain if image is None else numbers_of(image, plain)
    # Choices and bits stay 0 and 1: a choice that the data seldom take would become a large number.
    mean, std = np.where(plain, mean, 0).astype(stored), np.where(plain, std, 1).astype(stored)
    arrays: dict[str, NDArray[Any]] = {
        "episode_offsets": np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),  # [E + 1]
        "terminated": np.array(terminated, dtype=np.bool_),
        "truncated": np.array(truncated, dtype=np.bool_),
        "state_mean": mean,
        "state_std": std,
    }
    checksum = _checksum(arrays, columns)
    # The checksum describes the content; digests protect each file of the cache.
    digests = {name: column.digest() for name, column in columns.items()}
    digests |= {name: digest(array) for name, array in arrays.items()}
    if folder:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
    flat = {name: column.finish() for name, column in columns.items()} | arrays
    return Built(flat, checksum, digests, (*source.notes, *survey.notes(), *scale_notes))


def _checksum(arrays: dict[str, NDArray[Any]], columns: dict[str, Column]) -> str:
    """Return the SHA-256 of the content (names, types, shapes and bytes). It does not depend on the file format."""
    digests = {name: column.digest() for name, column in columns.items() if name != "returns_to_go"}
    for name in ("episode_offsets", "terminated", "truncated"):
        digests[name] = hashlib.sha256(arrays[name].tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
