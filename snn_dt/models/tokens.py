"""Masks that go with a sequence of tokens. B batch, L tokens, Q query tokens (L or fewer)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

ALL_TOKENS = slice(None)


@dataclass(frozen=True)
class Tokens:
    """Which tokens belong to real steps, which may attend to which, and which a block computes."""

    valid: Tensor
    """`[B, L]`, False on the tokens of pads."""
    attention_mask: Tensor
    """`[B, 1, L, L]`, which token may attend to which."""
    query_slice: slice = field(default_factory=lambda: ALL_TOKENS)
    """Query tokens, which the block computes; the others serve as keys and values only."""
    gate: Tensor | None = None
    """`[B, L, D]` of 0 and 1, by which phase generators multiply queries, keys and values; None: no gate."""

    @property
    def query_mask(self) -> Tensor:
        """`[B, 1, Q, L]`, the rows of `attention_mask` of the query tokens."""
        return self.attention_mask[:, :, self.query_slice]

    @cached_property
    def additive(self) -> Tensor:
        """`query_mask` as an addend to the scores of a softmax: 0 where allowed, else minus infinity."""
        return torch.zeros(self.query_mask.shape, device=self.valid.device).masked_fill_(~self.query_mask, -torch.inf)


def causal_mask(valid: Tensor) -> Tensor:
    """Return which token may attend to which: `[B, L] bool -> [B, 1, L, L] bool`, True where allowed.

    A token attends to itself and to earlier tokens of real steps. A pad attends to itself too, which keeps its softmax
    finite; its result is not used.
    """
    length = valid.shape[1]
    index = torch.arange(length, device=valid.device)
    earlier = index[None, :] < index[:, None]
    itself = index[None, :] == index[:, None]
    return ((earlier & valid[:, None, :]) | itself).unsqueeze(1)  # [B, L, L] -> [B, 1, L, L]
