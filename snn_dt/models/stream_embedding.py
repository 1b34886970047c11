"""Embedding of the streaming model: one token per step, conditioned on the return-to-go.

T tokens, B batch, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.encoders import ImageEncoder
from snn_dt.models.positions import INITIAL_SCALE
from snn_dt.models.return_code import RETURN_UNITS, ReturnCode


class StreamEmbedding(nn.Module):
    """Embed a step as `x_t = (1 + g(R_t)) * LN(W_s s_t + W_a a_(t-1)) + b(R_t)`.

    The return-to-go gates and shifts the token, so large states and actions cannot hide it. A balanced sum of the three
    inputs returned 500 on CartPole at a target of 29.

    Args:
        state_dim, action_dim, discrete, d_model: as in `TokenEmbedding`.
        code: code of the return-to-go. None: the desired goal alone gates and shifts the token.
        goal_columns: the desired goal in a state, whose gain and shift are added to those of the return-to-go.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        d_model: int,
        code: ReturnCode | None,
        goal_columns: slice | None = None,
        encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.goal_columns = goal_columns
        self.code: Any = code
        self.gate: Any = None if code is None else nn.Linear(RETURN_UNITS, 2 * d_model)
        self.state = nn.Linear(state_dim if encoder is None else encoder.out_features, d_model)
        self.action = nn.Embedding(action_dim, d_model) if discrete else nn.Linear(action_dim, d_model, bias=False)
        nn.init.normal_(self.action.weight, std=INITIAL_SCALE)
        self.norm = nn.LayerNorm(d_model)
        self.goal = None if goal_columns is None else nn.Linear(goal_columns.stop - goal_columns.start, 2 * d_model)

    def forward(self, rtg: Tensor, states: Tensor, previous: Tensor, known: Tensor) -> Tensor:
        """Return tokens `[T, B, D]`.

        `rtg` is `[T, B, 1]`. `previous` holds the actions of the steps before. `known [T, B, 1]` is False where there
        is none.
        """
        if self.encoder is not None and states.dtype == torch.uint8:
            states = self.encoder(states)  # [T, B, S] -> [T, B, d + D]; otherwise they are features already
        parts = []
        if self.code is not None:
            parts.append(self.gate(self.code(rtg)))
        if self.goal is not None:
            parts.append(self.goal(states[..., self.goal_columns]))
        gain, shift = sum(parts[1:], parts[0]).chunk(2, dim=-1)  # [T, B, 2 D] -> [T, B, D] each
        x = self.norm(self.state(states) + self.action(previous) * known)
        return torch.addcmul(shift, x, 1 + gain)
