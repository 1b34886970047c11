"""Spaces of arrays whose environment is not known, for `Trajectories.from_arrays`.

Shapes: `T` steps of an episode; `A` action columns.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from snn_dt.data.source import Episode
from snn_dt.errors import DataError

MAX_CHOICES = 1000
"""Largest number of choices that is inferred from integer actions. More of them are rather quantities."""


def unbounded_observations(observations: Any) -> gym.Space[Any]:
    """Return an unbounded Box, or a Dict of them. Bytes with two axes keep their type, as images have them."""
    if isinstance(observations, dict):
        return spaces.Dict({str(key): unbounded_observations(part) for key, part in observations.items()})
    shape = observations.shape[1:]
    if observations.dtype == np.uint8 and len(shape) > 1:
        return spaces.Box(0, 255, shape, np.uint8)
    return spaces.Box(-np.inf, np.inf, shape, np.float32)


def actions_of(episodes: list[Episode], where: str) -> tuple[gym.Space[Any], list[str]]:
    """Return (space of the actions in the data, notes). Integers and booleans give a Discrete space, others a Box."""
    if any(isinstance(episode.actions, dict | tuple) for episode in episodes):
        raise DataError(f"{where} has actions of several parts: expected their space; pass action_space")
    columns = [np.asarray(episode.actions) for episode in episodes if len(episode.actions)]
    kinds = {"choice" if column.dtype.kind in "biu" else "float" for column in columns}
    widths = {int(np.prod(column.shape[1:])) for column in columns}
    if len(kinds) > 1 or len(widths) > 1 or widths == {0}:
        raise DataError(
            f"{where} has actions of {' and '.join(sorted({str(column.dtype) for column in columns}))} and of "
            f"{' and '.join(map(str, sorted(widths)))} numbers: expected one kind, of at least one number; convert them"
        )
    if not columns:  # episodes without a step: the builder refuses them
        return spaces.Discrete(1), []
    if kinds == {"choice"}:
        return _choices(columns, widths.pop(), where)
    # NaN and infinity are left to the builder, which names the step.
    largest = np.finfo(np.float32).max
    finite = [np.where(abs(column) <= largest, column, 0.0).reshape(len(column), -1) for column in columns]  # [T, A]
    low = np.min([column.min(axis=0) for column in finite], axis=0).astype(np.float32)  # [A]
    high = np.max([column.max(axis=0) for column in finite], axis=0).astype(np.float32)
    note = (
        f"the action bounds are those of the data, {low.min():.6g} to {high.max():.6g}: pass action_space for those of "
        "the environment"
    )
    # Actions [T] become vectors of one number.
    shape = columns[0].shape[1:] or (1,)
    # [A] -> the shape of one action
    return spaces.Box(low.reshape(shape), high.reshape(shape), shape, np.float32), [note]


def _choices(columns: list[NDArray[Any]], width: int, where: str) -> tuple[gym.Space[Any], list[str]]:
    """Return (Discrete space, notes) of integer actions [T] or [T, 1]."""
    low, high = min(int(column.min()) for column in columns), max(int(column.max()) for column in columns)
    if width > 1 or low < 0 or high >= MAX_CHOICES:
        raise DataError(
            f"{where} has integer actions of {width} numbers from {low} to {high}: expected one choice for each step, "
            f"from 0 to at most {MAX_CHOICES - 1}; pass action_space=gymnasium.spaces.Discrete(n, start=...) or "
            "MultiDiscrete(...), or convert continuous actions to float"
        )
    # A choice that the data never take may be a quantity, or a choice of the environment.
    taken = {choice for column in columns for choice in np.unique(column).tolist()}
    missing = [choice for choice in range(high) if choice not in taken]
    note = f"the actions are taken as choices from 0 to {high}, {len(missing)} of them never taken: pass action_space"
    return spaces.Discrete(high + 1), [note] if missing else []
