"""Values of a Gymnasium space as rows of numbers, and back.

A row is what `gymnasium.spaces.flatten` gives:

| space | columns | code in `parts` |
|---|---|---|
| Box | its numbers | 0 for each |
| Discrete(n) | n, one-hot, counted from `start` | n |
| MultiDiscrete(nvec) | one-hot of each entry, one after another | each entry of nvec |
| MultiBinary(n) | n numbers, 0 or 1 | -1 for each |
| Dict, Tuple | those of its parts, in the order of the space | those of its parts |

Actions of a Discrete or a Box alone are not encoded: a model takes indices of the former and numbers of the latter. All
others are *composite*: one vector of numbers as input, and a vector of numbers, logits of choices and logits of bits as
prediction.

Shapes: `T` rows; `A` columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

NUMBER, BIT = 0, -1
Parts = tuple[int, ...]


def parts(space: gym.Space[Any]) -> Parts:
    """Return one code for each part of a space, see the table of this module."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return tuple(code for _, sub in _children(space) for code in parts(sub))
    if isinstance(space, spaces.Discrete):
        return (int(space.n),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(map(int, space.nvec.ravel()))
    code = BIT if isinstance(space, spaces.MultiBinary) else NUMBER
    return (code,) * int(np.prod(space.shape or ()))


def is_composite(space: gym.Space[Any]) -> bool:
    """Return whether actions of this space are encoded: it is neither a Box nor a Discrete."""
    return not isinstance(space, spaces.Box | spaces.Discrete)


def number_columns(codes: Parts) -> NDArray[np.bool_]:
    """Return which columns [A] are plain numbers, rather than choices and bits."""
    return np.repeat([code == NUMBER for code in codes], [max(code, 1) for code in codes]).astype(np.bool_)


def flat_box(space: gym.Space[Any]) -> spaces.Box:
    """Return the Box [A] of the rows of a space. Choices and bits are in [0, 1]."""
    low, high = np.concatenate([_bounds(leaf) for leaf in _leaves(space)], axis=1)  # [2, A]
    return spaces.Box(low, high, low.shape, np.float64)


def rows(space: gym.Space[Any], value: Any) -> NDArray[Any]:
    """Return T values of a space as rows [T, A].

    `value` is nested as the space is: dictionaries and tuples of arrays [T, ...]. For a Dict or a Tuple it may also be
    an array of rows [T, A].

    Raises:
        ValueError: a part is missing, has another length, or holds a number that is no choice of the space.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        if isinstance(value, np.ndarray):
            return _checked_rows(space, value.reshape(len(value), -1))
        found = [rows(sub, _child(value, key)) for key, sub in _children(space)]
        if len(lengths := {len(part) for part in found}) > 1:
            raise ValueError(f"parts of {sorted(lengths)} rows")
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)
    flat = np.asarray(value)
    flat = flat.reshape(len(flat), -1)  # [T, ...] -> [T, d]
    if isinstance(space, spaces.Box):
        return flat
    return _coded(space, flat)


def row(space: gym.Space[Any], value: Any) -> NDArray[Any]:
    """Return one value of a space as a row [A]. A row is returned unchanged. It raises as `rows` does."""
    shape = np.shape(value) if not isinstance(value, Mapping | tuple) else None
    if shape == (spaces.flatdim(space),) != space.shape:
        return np.asarray(value)
    return rows(space, _with_axis(space, value))[0]


def values(space: Any, coded: NDArray[Any]) -> Any:
    """Return rows [T, A] as T values, nested as the space is, with arrays [T, ...] as leaves.

    A choice is the column with the largest number of its group, a bit is 1 above 0. Numbers are brought into the bounds
    of their Box and its type. So predictions can be decoded too.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        sizes = [spaces.flatdim(sub) for _, sub in _children(space)]
        blocks = np.split(coded, np.cumsum(sizes)[:-1], axis=1)
        found = {key: values(sub, block) for (key, sub), block in zip(_children(space), blocks, strict=True)}
        return found if isinstance(space, spaces.Dict) else tuple(found.values())
    if isinstance(space, spaces.Box):
        return to_space(coded.reshape(-1, *space.shape), space)  # [T, A] -> [T, *shape]
    if isinstance(space, spaces.MultiBinary):
        return (coded > 0).astype(space.dtype).reshape(-1, *space.shape)
    groups = np.split(coded, np.cumsum(_counts(space))[:-1], axis=1)
    chosen = np.stack([group.argmax(axis=1) for group in groups], axis=1)  # [T, groups]
    return (chosen.reshape(-1, *space.shape) + space.start).astype(space.dtype)  # [T, *shape]


def take(value: Any, index: int) -> Any:
    """Return value number `index` of T values that `values` returned."""
    if isinstance(value, dict):
        return {key: take(part, index) for key, part in value.items()}
    return tuple(take(part, index) for part in value) if isinstance(value, tuple) else value[index]


def to_space(numbers: NDArray[Any], space: Any) -> NDArray[Any]:
    """Return `numbers [N, ...]` within the bounds of a Box and in its type. Integers are rounded.

    A value at or beyond a bound becomes exactly the bound. A float cannot represent the int64 bound 2^63 - 1.
    """
    if not np.issubdtype(space.dtype, np.integer):
        return np.asarray(np.clip(numbers, space.low, space.high), dtype=space.dtype)
    whole = np.rint(numbers.astype(np.float64))
    above, below = whole >= space.high.astype(np.float64), whole <= space.low.astype(np.float64)
    inside = np.where(above | below, 0.0, whole).astype(space.dtype)
    return np.asarray(np.where(above, space.high, np.where(below, space.low, inside)), dtype=space.dtype)


def _checked_rows(space: gym.Space[Any], coded: NDArray[Any]) -> NDArray[Any]:
    """Return rows [T, A] of a Dict or a Tuple; raise `ValueError` unless choices are one-hot and bits 0 or 1."""
    columns = ~number_columns(parts(space))
    # Other faults are reported later.
    if columns.any() and coded.shape[1] == len(columns) and np.isfinite(coded).all():
        wrong = coded[:, columns] != rows(space, values(space, coded))[:, columns]
        if wrong.any():
            step = int(np.argwhere(wrong)[0, 0])
            raise ValueError(f"{coded[step, columns]} at step {step} where choices as one-hot and bits were expected")
    return coded


def _coded(space: Any, flat: NDArray[Any]) -> NDArray[np.float32]:
    """Return whole numbers [T, d] of a Discrete, MultiDiscrete or MultiBinary as columns [T, A] of 0 and 1."""
    binary = isinstance(space, spaces.MultiBinary)
    counts = np.full(int(np.prod(space.shape)), 2) if binary else _counts(space)
    if flat.shape[1] != len(counts):
        raise ValueError(f"{flat.shape[1]} numbers where {_line(space)} has {len(counts)}")
    index = flat - (0 if binary else np.ravel(space.start))
    inside = (index >= 0) & (index < counts) & (index == np.floor(index))
    if not inside.all():
        step = tuple(np.argwhere(~inside)[0])
        raise ValueError(f"{flat[step]} at step {step[0]} where {_line(space)} was expected")
    if binary:
        return index.astype(np.float32)
    coded = np.zeros((len(flat), int(counts.sum())), np.float32)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])  # column of the first choice of each group
    coded[np.arange(len(flat))[:, None], first + index.astype(np.int64)] = 1
    return coded


def _counts(space: Any) -> NDArray[np.int64]:
    """Return the number of choices of each entry of a Discrete or a MultiDiscrete."""
    return np.ravel(space.n if isinstance(space, spaces.Discrete) else space.nvec)


def _bounds(leaf: Any) -> NDArray[np.float64]:
    """Return the lower and upper bounds [2, A] of the columns of a leaf."""
    if isinstance(leaf, spaces.Box):
        return np.stack([np.ravel(leaf.low), np.ravel(leaf.high)]).astype(np.float64)
    return np.repeat([[0.0], [1.0]], spaces.flatdim(leaf), axis=1)


def _children(space: Any) -> list[tuple[Any, gym.Space[Any]]]:
    return list(space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces))


def _leaves(space: gym.Space[Any]) -> list[Any]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return [leaf for _, sub in _children(space) for leaf in _leaves(sub)]
    return [space]


def _child(value: Any, key: Any) -> Any:
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        raise ValueError(f"no part {key!r}") from None


def _with_axis(space: gym.Space[Any], value: Any) -> Any:
    """Return one value as T = 1 values."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return {key: _with_axis(sub, _child(value, key)) for key, sub in _children(space)}
    return np.asarray(value)[None]


def _line(space: Any) -> str:
    return " ".join(str(space).split())
