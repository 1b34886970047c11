"""Keys and values of the last steps, so that a decision of a model with an attention span computes its new tokens only.

B rows, S attention span in steps, P tokens of a step (3, or 1 when merged), C tokens of a ring, D width, T simulation
steps. Tokens are numbered from the beginning of their episode: step t has the tokens P t to P t + P - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NewTokens:
    """The P tokens that a decision adds to the rings: `(a_(t-1), R_t, s_t)`, or one merged token."""

    slots: Tensor
    """`[B, P]`, their places in a ring."""
    attention_mask: Tensor
    """`[B, 1, P, C]`, which new token may attend to which token of the ring."""
    distance: Tensor
    """`[B, P, C]`, number of a new token minus number of a token of the ring."""
    valid: Tensor
    """`[B, P]` bool. False on the action before the first step, which does not exist."""


@dataclass(frozen=True)
class Ring:
    """Places of the last tokens of an episode. Token i is in place `i mod C`.

    `C = P S + P - 1`. The action of step t - 1 is known at step t and attends to S steps too. So the ring holds the
    tokens of steps t - S to t - 1, and `R_t` and `s_t`. A merged token holds the action before it (P = 1).

    Attributes:
        span: S.
        per_step: P.
    """

    span: int
    per_step: int

    @property
    def capacity(self) -> int:
        """Number of tokens C."""
        return self.per_step * self.span + self.per_step - 1

    def add(self, timesteps: Tensor) -> NewTokens:
        """Return the new tokens of rows that are at the steps `timesteps [B]` of their episodes."""
        p, c = self.per_step, self.capacity
        # Interleaved tokens begin with the action of step t - 1.
        new = p * timesteps[:, None] + torch.arange(p, device=timesteps.device) - int(p > 1)  # [B, P]
        last = new[:, -1:]
        places = torch.arange(c, device=timesteps.device)
        held = last - (last - places) % c  # [B, C], number of the token in each place; below 0 is none
        distance = new[..., None] - held[:, None]  # [B, P, C]
        near = new[..., None] // p - held[:, None] // p < self.span
        allowed = (distance >= 0) & near & (held >= 0)[:, None]
        # A token that does not exist attends to itself, as a pad does: a softmax over no token would be NaN.
        return NewTokens(new % c, (allowed | (distance == 0)).unsqueeze(1), distance, new >= 0)


@dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer in a ring, `[B, C, D]` or trains `[B, T, C, D]`, and the tokens to be added."""

    keys: Tensor
    values: Tensor
    new: NewTokens

    def add(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write `k, v [(T,) B, P, D]` of the new tokens in place and return those of the ring `[(T,) B, C, D]`."""
        rows = torch.arange(len(self.keys), device=k.device)[:, None]  # [B, 1]
        if k.dim() == 3:
            self.keys[rows, self.new.slots], self.values[rows, self.new.slots] = k, v
            return self.keys, self.values
        # [T, B, P, D] -> [B, P, T, D], the shape of an assignment to rows and slots around the time axis
        self.keys[rows, :, self.new.slots], self.values[rows, :, self.new.slots] = (
            x.permute(1, 2, 0, 3) for x in (k, v)
        )
        return self.keys.transpose(0, 1), self.values.transpose(0, 1)
