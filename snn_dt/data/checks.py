"""Checks of an episode before it is added to a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete, flatdim
from numpy.typing import NDArray

from snn_dt.data.encoding import flat_box, is_composite, rows
from snn_dt.data.images import find_image, numbers_of, pack
from snn_dt.data.normalisation import is_wide
from snn_dt.data.source import Episode, Source
from snn_dt.errors import DataError

ACTION_TOLERANCE = 1e-3
"""Allowed excess of an action over its bounds as a fraction of their width. Some recorders do not clip."""
ROUNDING = 1e-6
"""Further allowed excess as a fraction of the bounds themselves, which float32 rounds."""

MAX_WIDTH = 1e4
"""Largest width of usable action bounds as a multiple of the largest action (at least 1)."""


def as_rows(episode: Episode, where: str, source: Source) -> Episode:
    """Return an episode with rows of numbers as observations and as actions, or raise `DataError`.

    Values of a Box keep their type, and actions of a Discrete stay as they are: their checks need that of the file.
    """
    name = "observations"
    try:
        if isinstance(source.observation_space, Box):
            found = episode.observations
            if isinstance(found, np.ndarray) and found.ndim not in (0, 2):
                width = int(np.prod(found.shape[1:]))
                episode = episode._replace(observations=found.reshape(len(found), width))  # [T, ...] -> [T, obs_dim]
        else:
            episode = episode._replace(observations=rows(source.observation_space, episode.observations))
        name = "actions"
        if is_composite(source.action_space):
            episode = episode._replace(actions=rows(source.action_space, episode.actions))
    except (ValueError, TypeError) as error:  # TypeError: no array where one was expected
        raise DataError(f"{where} has {name} of {error}; repair or drop the episode") from error
    return episode


def checked(episode: Episode, where: str, source: Source) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Return the observations [T, obs_dim], actions [T, ...] and rewards [T] of one episode, or raise `DataError`.

    Observations keep a type of more than 32 bits, and become bytes if they have an image (`snn_dt.data.images`). All
    their numbers are finite in float32.
    """
    # Types first: the checks below compute with the numbers.
    for name in ("observations", "actions", "rewards"):
        values = np.asarray(getattr(episode, name))
        if values.dtype.kind not in "biuf" or values.ndim == 0 or (name == "rewards" and values.ndim > 1):
            raise DataError(
                f"{where} has {name} of type {values.dtype} and shape {list(values.shape)}: expected a number a step "
                "for rewards, else a row of numbers; repair or drop it"
            )
    n = len(episode.rewards)
    if n == 0 or len(episode.actions) != n or len(episode.observations) not in (n, n + 1):
        raise DataError(
            f"{where} has {len(episode.observations)} observations, {len(episode.actions)} actions and {n} rewards: "
            "expected T >= 1 rewards, T actions and T or T + 1 observations; repair or drop the episode"
        )
    given = np.asarray(episode.observations[:n])
    _check_width("observations", given, flatdim(source.observation_space), where, source.observation_space)
    image = find_image(source.observation_space)
    numbers = given if image is None else numbers_of(image, given)
    with np.errstate(over="ignore"):  # a number too large for float32 becomes inf, which is reported below
        rounded = numbers.astype(np.float32)
    try:
        observations = pack(image, given) if image else given if is_wide(given.dtype) else rounded
    except ValueError as error:
        raise DataError(f"{where} has {error}; repair or drop it, or correct the space in the metadata") from error
    # float64, since returns-to-go are sums over the episode.
    rewards = np.asarray(episode.rewards, dtype=np.float64)
    check_finite("observations", rounded, where)
    check_finite("rewards", rewards, where)
    return observations, _checked_actions(episode.actions, where, source), rewards


def check_finite(name: str, values: NDArray[Any], where: str) -> None:
    """Raise `DataError` if values [T, ...] are not finite in float32. The message names the first such step."""
    finite = np.abs(values) <= np.finfo(np.float32).max  # False for NaN
    if not finite.all():
        step = int(np.argwhere(~finite)[0, 0])
        raise DataError(
            f"{where} has NaN or infinite {name} at step {step}: expected finite numbers of 32 bits; repair or drop it"
        )


def _check_width(name: str, rows: NDArray[Any], expected: int, where: str, space: Any) -> None:
    """Raise `DataError` for rows [T, n] whose length differs from that of their space."""
    if rows.shape[1] != expected:
        raise DataError(
            f"{where} has {name} of {rows.shape[1]} numbers: expected {expected} for {one_line(space)}; repair or "
            "drop the episode, or correct the space in the metadata"
        )


def _checked_actions(actions: NDArray[Any], where: str, source: Source) -> NDArray[Any]:
    """Return actions as [T, action_dim] float32 or [T] int64. An action outside the space raises `DataError`."""
    space: Any = source.action_space
    discrete = isinstance(space, Discrete)
    values = np.asarray(actions).reshape(len(actions), -1)  # [T, ...] -> [T, action_dim]
    _check_width("actions", values, flatdim(space) if not discrete else 1, where, space)
    if discrete:
        values = values[:, 0]  # [T, 1] -> [T]
        inside = (values >= space.start) & (values < space.start + space.n) & (values == np.floor(values))
    else:
        low, high, slack = bounds(flat_box(space))
        finite = np.abs(values) <= np.finfo(np.float32).max  # False for NaN
        inside = (values >= low - slack) & (values <= high + slack) & finite
        if source.clip_actions and np.isfinite(values).all():
            values, inside = np.clip(values, low - slack, high + slack), np.ones_like(inside)
    if not inside.all():
        step = tuple(np.argwhere(~inside)[0])
        raise DataError(
            f"{where} has action {values[step]} at step {step[0]}: expected actions inside {one_line(space)}; "
            "repair or drop the episode"
        )
    return values.astype(np.int64 if discrete else np.float32)


def bounds(space: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return (low, high, tolerance) of a Box. Each is [action_dim]."""
    low, high = np.ravel(space.low).astype(np.float64), np.ravel(space.high).astype(np.float64)
    # Infinite bounds need no tolerance; they count as 0 here.
    size = np.where(np.isfinite(low), np.abs(low), 0) + np.where(np.isfinite(high), np.abs(high), 0)
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    return low, high, ACTION_TOLERANCE * np.where(np.isfinite(width), width, 1.0) + ROUNDING * size


def absurd(low: NDArray[Any], high: NDArray[Any], size: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which finite bounds [A] are too wide to scale the loss. `size` holds the largest absolute actions."""
    with np.errstate(over="ignore", invalid="ignore"):
        width = high.astype(np.float64) - low.astype(np.float64)
    wide: NDArray[np.bool_] = np.isfinite(low) & np.isfinite(high) & (width > MAX_WIDTH * np.maximum(size, 1.0))
    return wide


def one_line(space: Any) -> str:
    """Return a space as one line of text."""
    return " ".join(str(space).split())
