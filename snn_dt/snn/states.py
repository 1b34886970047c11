"""Operations on the state of a recurrent model.

A state is a nested structure of tuples, lists and dictionaries with tensors `[B, ...]`. None is rest. B is the number
of rows (episodes or trials) that run in parallel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


def map_state(fn: Callable[..., Tensor], state: S, *others: Any) -> S:
    """Apply `fn` to each tensor of a state and the corresponding tensors of other states."""
    found: Any = state
    if state is None:
        return state
    if isinstance(found, Tensor):
        return fn(found, *others)  # type: ignore[return-value]
    if isinstance(found, dict):
        return {key: map_state(fn, x, *(o[key] for o in others)) for key, x in found.items()}  # type: ignore[return-value]
    if isinstance(found, tuple | list):
        parts = [map_state(fn, *x) for x in zip(found, *others, strict=True)]
        # A named tuple takes its parts as separate arguments.
        return type(found)(*parts) if hasattr(found, "_fields") else type(found)(parts)  # type: ignore[return-value]
    raise TypeError(f"state: expected tensors in tuples, lists and dictionaries; found {type(found).__name__}")


def detach(state: S) -> S:
    """Return the state detached from the autograd graph."""
    return map_state(Tensor.detach, state)


def reset_rows(state: S, over: Tensor, rest: Any = None) -> S:
    """Reset the rows where `over [B]` is True. Other rows keep their values and gradients.

    `rest` is one row at rest with the structure of `state`. None stands for 0 everywhere. This is the rest of
    all states in this package except membranes with a nonzero `v_rest`.
    """
    others = (map_state(torch.zeros_like, state) if rest is None else rest,)
    # over [B] -> [B, 1, ...] to broadcast over each tensor
    return map_state(lambda x, r: torch.where(over.view(-1, *[1] * (x.dim() - 1)), r, x), state, *others)


def keep_rows(state: S, rows: Tensor) -> S:
    """Return the rows with the int64 indices `rows` in the given order."""
    return map_state(lambda x: x[rows], state)  # [B, ...] -> [len(rows), ...]
