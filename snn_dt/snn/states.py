"""Operations on the state of any recurrent model: tensors `[B, ...]`, in tuples, lists and dictionaries; None is rest.

B rows (episodes, trials) that run side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

S = TypeVar("S")


def map_state(fn: Callable[..., Tensor], state: S, *others: Any) -> S:
    """Apply `fn` to every tensor of a state, and to the tensors at the same places of others."""
    found: Any = state
    if state is None:
        return state
    if isinstance(found, Tensor):
        return fn(found, *others)  # type: ignore[return-value]
    if isinstance(found, dict):
        return {key: map_state(fn, x, *(o[key] for o in others)) for key, x in found.items()}  # type: ignore[return-value]
    if isinstance(found, tuple | list):
        parts = [map_state(fn, *x) for x in zip(found, *others, strict=True)]
        return type(found)(*parts) if hasattr(found, "_fields") else type(found)(parts)  # type: ignore[return-value]
    raise TypeError(f"state: expected tensors in tuples, lists and dictionaries; found {type(found).__name__}")


def detach(state: S) -> S:
    """Cut the gradient: what is returned has the values of `state` and no past."""
    return map_state(Tensor.detach, state)


def reset_rows(state: S, over: Tensor, rest: Any = None) -> S:
    """Begin anew in the rows where `over [B]` is True; the others, and their gradient, stay.

    `rest` has the shape of a row at rest and the structure of `state`; None is 0 everywhere, the rest of every state of
    this package except membranes with a `v_rest` of their own.
    """
    others = (map_state(torch.zeros_like, state) if rest is None else rest,)
    return map_state(lambda x, r: torch.where(over.view(-1, *[1] * (x.dim() - 1)), r, x), state, *others)


def keep_rows(state: S, rows: Tensor) -> S:
    """Return the rows of int64 indices `rows`, in that order."""
    return map_state(lambda x: x[rows], state)
