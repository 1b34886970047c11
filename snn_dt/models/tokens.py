"""Masks that go with a sequence of tokens. B batch, L tokens, Q query tokens (L or fewer)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

ALL_TOKENS = slice(None)


@dataclass(frozen=True)
class Tokens:
    """Masks of a token sequence and the slice of tokens that a block computes."""

    valid: Tensor
    """`[B, L]` bool. False on the tokens of pads."""
    attention_mask: Tensor
    """`[B, 1, L, L]`, which token may attend to which."""
    query_slice: slice = field(default_factory=lambda: ALL_TOKENS)
    """Query tokens, which the block computes; the others serve as keys and values only."""
    gate: Tensor | None = None
    """Phase spikes `[B, L, D]` of 0 and 1 that multiply queries, keys and values. None means no gate."""

    @property
    def query_mask(self) -> Tensor:
        """Rows of `attention_mask` for the query tokens `[B, 1, Q, L]`."""
        return self.attention_mask[:, :, self.query_slice]

    @cached_property
    def additive(self) -> Tensor:
        """`query_mask` as an addend to softmax scores: 0 where allowed and minus infinity elsewhere."""
        return torch.zeros(self.query_mask.shape, device=self.valid.device).masked_fill_(~self.query_mask, -torch.inf)


def causal_mask(valid: Tensor) -> Tensor:
    """Return the causal attention mask: `[B, L] bool -> [B, 1, L, L] bool`. True where attention is allowed.

    A token attends to itself and to earlier tokens of real steps. A pad attends to itself too, because a softmax over
    no token would be NaN. Its result is not used.
    """
    length = valid.shape[1]
    index = torch.arange(length, device=valid.device)
    earlier = index[None, :] < index[:, None]  # [L, L], rows are queries
    itself = index[None, :] == index[:, None]
    return ((earlier & valid[:, None, :]) | itself).unsqueeze(1)  # [B, L, L] -> [B, 1, L, L]
