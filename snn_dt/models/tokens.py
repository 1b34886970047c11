"""Masks that go with a sequence of tokens. B batch, L tokens, Q query tokens (L or fewer)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from snn_dt.models.kept_keys import LayerCache

ALL_TOKENS = slice(None)


@dataclass(frozen=True)
class Tokens:
    """Masks of a token sequence and the slice of tokens that a block computes."""

    valid: Tensor
    """`[B, L]` bool. False on the tokens of pads."""
    attention_mask: Tensor
    """`[B, 1, L, L]`, which token may attend to which; `[B, 1, L, C]` with a cache of C tokens."""
    query_slice: slice = field(default_factory=lambda: ALL_TOKENS)
    """Query tokens, which the block computes; the others serve as keys and values only."""
    gate: Tensor | None = None
    """Phase spikes `[B, L, D]` of 0 and 1 that multiply queries, keys and values. None means no gate."""
    cache: LayerCache | None = None
    """Keys and values of earlier tokens, which a decision does not compute again. None means there are none."""

    @property
    def query_mask(self) -> Tensor:
        """Rows of `attention_mask` for the query tokens `[B, 1, Q, L]`."""
        return self.attention_mask[:, :, self.query_slice]

    @property
    def distance(self) -> Tensor:
        """Number of tokens from key to query `[B or 1, Q, L or C]`. It is negative for later keys."""
        if self.cache is not None:
            return self.cache.new.distance[:, self.query_slice]
        index = torch.arange(self.valid.shape[1], device=self.valid.device)
        return (index[:, None] - index)[None, self.query_slice]

    def keys_and_values(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Return the keys and values that the tokens may attend to: `k, v [(T,) B, L, D]` and those of the cache."""
        return (k, v) if self.cache is None else self.cache.add(k, v)

    @cached_property
    def additive(self) -> Tensor:
        """`query_mask` as an addend to softmax scores: 0 where allowed and minus infinity elsewhere."""
        return torch.zeros(self.query_mask.shape, device=self.valid.device).masked_fill_(~self.query_mask, -torch.inf)


def causal_mask(valid: Tensor, span: int | None = None, per_step: int = 1) -> Tensor:
    """Return the causal attention mask: `[B, L] bool -> [B, 1, L, L] bool`. True where attention is allowed.

    With a `span` a token attends to the last `span` steps only, its own included. `per_step` is the number of tokens of
    a step.

    A token attends to itself and to earlier tokens of real steps. A pad attends to itself too, because a softmax over
    no token would be NaN. Its result is not used.
    """
    length = valid.shape[1]
    index = torch.arange(length, device=valid.device)
    earlier = index[None, :] < index[:, None]  # [L, L], rows are queries
    itself = index[None, :] == index[:, None]
    if span is not None:
        earlier = earlier & (index[:, None] // per_step - index[None, :] // per_step < span)
    return ((earlier & valid[:, None, :]) | itself).unsqueeze(1)  # [B, L, L] -> [B, 1, L, L]
