"""Which spaces can be learned from, and where their numbers lie in a nested episode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from snn_dt.envs.spec import NO_LIMIT, parse_spec
from snn_dt.errors import DataError

# The Dict keys and Tuple indices that lead to a leaf of the observation space: () for the space itself.
LeafPath = tuple[str | int, ...]


def observation_leaves(observation_space: gym.Space[Any], action_space: gym.Space[Any], dataset: str) -> list[LeafPath]:
    """Return the paths of the observation's Boxes, in the order in which Gymnasium's `flatten` concatenates them.

    Raises `DataError` that names whatever is no vector of numbers (images, text, choices) and actions that are neither
    a Box nor a Discrete.
    """
    leaves = list(_leaves(observation_space))
    found = [
        f"{_kind(leaf)} observations" + (f" at {'/'.join(map(str, at))!r}" if at else "")
        for at, leaf in leaves
        if not isinstance(leaf, spaces.Box) or _is_image(leaf)
    ]
    if not isinstance(action_space, spaces.Box | spaces.Discrete) or _is_image(action_space):
        found.append(f"{_kind(action_space)} actions")
    if found:
        raise DataError(
            f"dataset {dataset!r} has {', '.join(found)}; supported are Box observations (or Dict or Tuple of Box, "
            "without images) and Box or Discrete actions: choose another dataset"
        )
    return [at for at, _ in leaves]


def _leaves(space: gym.Space[Any], at: LeafPath = ()) -> Iterator[tuple[LeafPath, gym.Space[Any]]]:
    if isinstance(space, spaces.Dict):
        for key, sub in space.spaces.items():
            yield from _leaves(sub, (*at, key))
    elif isinstance(space, spaces.Tuple):
        for index, sub in enumerate(space.spaces):
            yield from _leaves(sub, (*at, index))
    else:
        yield at, space


def _kind(space: gym.Space[Any]) -> str:
    return f"image {space.shape}" if _is_image(space) else type(space).__name__


def _is_image(space: gym.Space[Any]) -> bool:
    """Return whether this is a picture; smaller uint8 grids (Minigrid's 7 x 7) are plain numbers, as for Minari."""
    shape = space.shape or ()
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(shape) in (2, 3) and min(shape[:2]) >= 32


def clean_env_spec(text: Any) -> tuple[str | None, str | None, int | None]:
    """Return (environment id, JSON that `EnvSpec.from_json` accepts, step limit) of a serialised environment spec.

    Specs of older Gymnasium versions hold keys that `EnvSpec` has dropped (`autoreset`, `apply_api_compatibility`);
    its `from_json` raises on them, so they are left out here. Raises `DataError` for what is no spec.
    """
    if text is None or text == "":
        return None, None, None
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
