"""Which spaces are supported, and notes on how they are read. `snn_dt.data.encoding` turns values into numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from snn_dt.data.env_spec import NO_LIMIT, parse_spec
from snn_dt.data.images import is_image
from snn_dt.errors import DataError

# The Dict keys and Tuple indices that lead to a leaf of the observation space: () for the space itself.
LeafPath = tuple[str | int, ...]

MAX_CHOICES = 4096
"""Largest number of columns of a Discrete or MultiDiscrete, which are one-hot."""
REFUSED = {
    "Text": "letters are no numbers",
    "Sequence": "its length changes from step to step",
    "Graph": "its size changes from step to step",
    "OneOf": "its kind changes from step to step",
}
"""Spaces without a row of numbers of fixed length, and the reason."""


def check_supported(observation_space: gym.Space[Any], action_space: gym.Space[Any], dataset: str) -> None:
    """Raise `DataError` for spaces that cannot be learned from. The message names each and the reason.

    Supported are Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of them, with one image of bytes among
    the observations. Not supported are empty spaces and spaces without a fixed number of columns.
    """
    # All faults are collected, so that the message names them together.
    images = 0
    found = []
    for name, space in (("observations", observation_space), ("actions", action_space)):
        for at, leaf in _leaves(space):
            kind, reason = _fault(leaf)
            if not kind and _is_image(leaf):
                images += 1
                if name == "actions" or images > 1:
                    kind, reason = f"image {leaf.shape}", " (one image in an observation is supported)"
            if kind:
                found.append(f"{kind} {name}" + (f" at {'/'.join(map(str, at))!r}" if at else "") + reason)
    if found:
        raise DataError(
            f"dataset {dataset!r} has {', '.join(found)}; supported are Box, Discrete, MultiDiscrete and MultiBinary, "
            "and Dict and Tuple of them: choose another dataset"
        )


def _leaves(space: gym.Space[Any], at: LeafPath = ()) -> Iterator[tuple[LeafPath, gym.Space[Any]]]:
    if isinstance(space, spaces.Dict) and space.spaces:
        # In the order of the space, which `flatten` follows.
        for key, sub in space.spaces.items():
            yield from _leaves(sub, (*at, key))
    elif isinstance(space, spaces.Tuple) and space.spaces:
        for index, sub in enumerate(space.spaces):
            yield from _leaves(sub, (*at, index))
    else:
        yield at, space


def _fault(leaf: Any) -> tuple[str, str]:
    """Return (kind of an unsupported leaf, reason), or two empty texts."""
    kind = type(leaf).__name__
    if isinstance(leaf, spaces.Dict | spaces.Tuple):  # a leaf only without parts
        return f"empty {kind}", ""
    if isinstance(leaf, spaces.Box):
        if _is_image(leaf) and leaf.dtype not in (np.uint8, np.bool_):
            return f"image {leaf.shape}", f" of {leaf.dtype} (images are bytes, uint8)"
        if 0 in leaf.shape:
            return f"empty {leaf.shape}", ""
        return ("Box (with bounds that are NaN)", "") if np.isnan([leaf.low, leaf.high]).any() else ("", "")
    if isinstance(leaf, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        columns = spaces.flatdim(leaf)
        if 0 < columns <= MAX_CHOICES:
            return "", ""
        return kind, f" ({columns:,} one-hot columns, at most {MAX_CHOICES:,})"
    return kind, f" ({REFUSED[kind]})" if kind in REFUSED else ""


MAX_QUIET_NUMBERS = 1024
"""Largest number of numbers of an observation without a note."""


def flattened(shape: tuple[int, ...], dtype: Any, at: LeafPath = ()) -> str | None:
    """Return a note if an observation that may be a grid is read as a vector, else None."""
    n = int(np.prod(shape))
    if is_image(shape, dtype):
        return None
    if (np.dtype(dtype) != np.uint8 or len(shape) < 2) and n <= MAX_QUIET_NUMBERS:
        return None
    name = f"observations at {'/'.join(map(str, at))!r}" if at else "observations"
    return f"{name} of shape {tuple(shape)} are read as {n:,} plain numbers, without their place in the grid"


def space_notes(observation_space: gym.Space[Any]) -> tuple[str, ...]:
    """Return notes on how the observations of a space are read."""
    boxes = ((at, leaf) for at, leaf in _leaves(observation_space) if isinstance(leaf, spaces.Box))
    found = (flattened(leaf.shape, leaf.dtype, at) for at, leaf in boxes)
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
