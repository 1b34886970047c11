"""Supported spaces and the paths of their numbers in a nested episode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from snn_dt.data.env_spec import NO_LIMIT, parse_spec
from snn_dt.errors import DataError

# The Dict keys and Tuple indices that lead to a leaf of the observation space: () for the space itself.
LeafPath = tuple[str | int, ...]


def observation_leaves(observation_space: gym.Space[Any], action_space: gym.Space[Any], dataset: str) -> list[LeafPath]:
    """Return the paths of the observation's Boxes in the order of Gymnasium's `flatten`.

    Raises `DataError` for observations that are not vectors of numbers (images, text, choices) and for actions that are
    neither Box nor Discrete.
    """
    # All faults are collected, so that the message names them together.
    leaves = list(_leaves(observation_space))
    found = [
        f"{_kind(leaf)} observations" + (f" at {'/'.join(map(str, at))!r}" if at else "")
        for at, leaf in leaves
        if not _is_vector(leaf)
    ]
    if not isinstance(action_space, spaces.Discrete) and not _is_vector(action_space):
        found.append(f"{_kind(action_space)} actions")
    if found:
        raise DataError(
            f"dataset {dataset!r} has {', '.join(found)}; supported are Box observations (or Dict or Tuple of Box, "
            "without images) and Box or Discrete actions: choose another dataset"
        )
    return [at for at, _ in leaves]


def _leaves(space: gym.Space[Any], at: LeafPath = ()) -> Iterator[tuple[LeafPath, gym.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        # In the order of the space, which `flatten` follows.
        for key, sub in space.spaces.items():
            yield from _leaves(sub, (*at, key))
    elif isinstance(space, spaces.Tuple):
        for index, sub in enumerate(space.spaces):
            yield from _leaves(sub, (*at, index))
    else:
        yield at, space


def _is_vector(space: gym.Space[Any]) -> bool:
    """Return whether a space is a Box of at least one number with valid bounds."""
    if not isinstance(space, spaces.Box) or _is_image(space):
        return False
    return 0 not in space.shape and not np.isnan([space.low, space.high]).any()


def _kind(space: gym.Space[Any]) -> str:
    if _is_image(space):
        return f"image {space.shape}"
    if isinstance(space, spaces.Box):
        return f"empty {space.shape}" if 0 in space.shape else "Box (with bounds that are NaN)"
    return type(space).__name__


MAX_GRID = 31
"""Largest number of rows and columns of a grid of bytes (Minigrid's 7 x 7) that is not taken for an image."""

MAX_QUIET_NUMBERS = 1024
"""Largest number of numbers of an observation without a note."""


def is_image(shape: tuple[int, ...], dtype: Any) -> bool:
    """Return whether an array is an image or a stack of images, with the channels on any axis.

    Bytes with two long axes are an image, other numbers only with a third axis. Smaller grids are plain numbers, as in
    Minari.
    """
    # Channels are few, so the axis of the channels does not count as long.
    long_axes = sum(size > MAX_GRID for size in shape)
    return long_axes >= 2 and (np.dtype(dtype) == np.uint8 or len(shape) >= 3)


def flattened(shape: tuple[int, ...], dtype: Any, at: LeafPath = ()) -> str | None:
    """Return a note if an observation that may be a grid is read as a vector, else None."""
    n = int(np.prod(shape))
    if (np.dtype(dtype) != np.uint8 or len(shape) < 2) and n <= MAX_QUIET_NUMBERS:
        return None
    name = f"observations at {'/'.join(map(str, at))!r}" if at else "observations"
    return f"{name} of shape {tuple(shape)} are read as {n:,} plain numbers, without their place in the grid"


def space_notes(observation_space: gym.Space[Any]) -> tuple[str, ...]:
    """Return notes on how the observations of a space are read."""
    found = (flattened(leaf.shape or (), leaf.dtype, at) for at, leaf in _leaves(observation_space))
    return tuple(note for note in found if note)


def _is_image(space: gym.Space[Any]) -> bool:
    return isinstance(space, spaces.Box) and is_image(space.shape, space.dtype)


def clean_env_spec(text: Any) -> tuple[str | None, str | None, int | None]:
    """Return (environment id, JSON that `EnvSpec.from_json` accepts, step limit) of a serialised environment spec.

    Specs of older Gymnasium versions hold keys that `EnvSpec` has dropped (`autoreset`, `apply_api_compatibility`);
    its `from_json` raises on them, so they are removed here. Raises `DataError` for other text.
    """
    if text is None or text == "":
        return None, None, None
    # Keys that this version of Gymnasium accepts.
    known = {f.name for f in fields(gym.envs.registration.EnvSpec) if f.init} | {"additional_wrappers"}
    try:
        found = parse_spec(text)
    except ValueError as error:
        raise DataError(
            f"expected the environment spec of the dataset to be JSON with an id, found: {error}; remove it from "
            "metadata.json"
        ) from error
    spec = {"additional_wrappers": []} | {key: value for key, value in json.loads(text).items() if key in known}
    return found.id, json.dumps(spec), None if found.limit == NO_LIMIT else found.limit
