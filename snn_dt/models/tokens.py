"""What blocks know of their tokens besides their content. B batch, L tokens, Q tokens asked for (L or fewer)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

ALL = slice(None)


@dataclass(frozen=True)
class Tokens:
    """Which tokens are real, which may attend to which, which are asked for."""

    valid: Tensor
    """`[B, L]`, False on the tokens of pads."""
    attention_mask: Tensor
    """`[B, 1, L, L]`, which token may attend to which."""
    query_slice: slice = field(default_factory=lambda: ALL)
    """Tokens the block is asked for; the others serve as keys and values only."""
    gate: Tensor | None = None
    """`[B, L, D]` of 0 and 1, what phase generators let through of queries, keys and values; None: all."""

    @property
    def query_mask(self) -> Tensor:
        """`allowed [B, 1, Q, L]` of the tokens asked for."""
        return self.attention_mask[:, :, self.query_slice]

    @cached_property
    def additive(self) -> Tensor:
        """`asked` as what a softmax adds to its scores: 0 where allowed, else minus infinity."""
        return torch.zeros(self.query_mask.shape, device=self.valid.device).masked_fill_(~self.query_mask, -torch.inf)


def causal_mask(real: Tensor) -> Tensor:
    """Return which token may attend to which: `[B, L] bool -> [B, 1, L, L] bool`, True where allowed.

    A token attends to itself and to earlier tokens of real steps. A pad attends to itself too, which keeps its softmax
    finite; nobody reads the result.
    """
    length = real.shape[1]
    index = torch.arange(length, device=real.device)
    earlier = index[None, :] < index[:, None]
    itself = index[None, :] == index[:, None]
    return ((earlier & real[:, None, :]) | itself).unsqueeze(1)
