"""Layer norm whose affine map depends on the goal of an episode.

B rows, L tokens, D width, n goals.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GoalNorm(nn.LayerNorm):
    """Layer norm with a gain and a shift per goal, both 0 at first: `y = (1 + gain_g) (w LN(x) + b) + shift_g`.

    The goal is constant in an episode, so `(1 + gain_g) w` and `(1 + gain_g) b + shift_g` are the weight and the bias
    of a plain layer norm. `set_goal` computes them once, in place, and a decision costs no more than without a goal.

    Args:
        width: D.
        n_goals: n.

    Attributes:
        goals: `[B, 1, n]` or `[B, n]`, one-hot: the goal of each row. None: all rows have the goal of `set_goal`.
        acting_weight, acting_bias: `[D]`, the affine map of the goal of `set_goal`. Checkpoints do not hold them.
    """

    acting_weight: Tensor
    acting_bias: Tensor

    def __init__(self, width: int, n_goals: int) -> None:
        super().__init__(width)
        self.gain = nn.Parameter(torch.zeros(n_goals, width))
        self.shift = nn.Parameter(torch.zeros(n_goals, width))
        self.goals: Tensor | None = None
        self._goal = [0]  # of `set_goal`; in a list, because the ways of deciding watch the attributes of modules
        self.register_buffer("acting_weight", torch.ones(width), persistent=False)
        self.register_buffer("acting_bias", torch.zeros(width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x [..., B, L, D]`, or `[L, B, D]` with `goals [B, n]`."""
        if self.goals is None:
            return F.layer_norm(x, self.normalized_shape, self.acting_weight, self.acting_bias, self.eps)
        gain, shift = self.goals @ self.gain, self.goals @ self.shift  # [B, (1,) D] each
        return super().forward(x) * (1 + gain) + shift

    def train(self, mode: bool = True) -> GoalNorm:
        """Set the mode as every module does. Acting begins with the weights as they are now."""
        super().train(mode)
        if not mode:
            self.set_goal(self._goal[0])
        return self

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        if not self.acting_weight.is_meta:
            self.set_goal(self._goal[0])

    @torch.no_grad()
    def set_goal(self, goal: int) -> None:
        """Make `goal` the goal of all rows from now on, with the weights as they are now."""
        self._goal[0] = goal
        weight = self.weight * (1 + self.gain[goal])
        bias = self.bias * (1 + self.gain[goal]) + self.shift[goal]
        for old, new in ((self.acting_weight, weight), (self.acting_bias, bias)):
            # A kernel packs its weights again after a write. Meta tensors (a checkpoint is checked) hold no values.
            if not old.is_meta and not torch.equal(old, new):
                old.copy_(new)
