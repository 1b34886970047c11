"""Embedding of the streaming model: one token per step, conditioned on the return-to-go.

T tokens, B batch, D width, U units of the return code.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from snn_dt.models.positions import INITIAL_SCALE

RETURN_UNITS = 16


class ReturnCode(nn.Module):
    """Encode a return-to-go R as the activity of U units: `tanh((R - c_u) / w_u)`, `[..., 1] -> [..., U]`.

    The initial centres c_u are quantiles of the returns-to-go of the training data. The initial widths w_u are the
    distances between neighbouring centres. Both are learned. The resolution thus follows the data. A single linear
    layer hardly distinguishes 29 from 60 on a scale up to 500. A return-to-go outside the data is clamped as in
    `TokenEmbedding`.

    Args:
        quantiles: scaled returns-to-go at equal steps of probability from the lowest to the highest. None is (0, 1).
        units: U.
    """

    def __init__(self, quantiles: tuple[float, ...] | None, units: int = RETURN_UNITS) -> None:
        super().__init__()
        known = np.asarray(quantiles or (0.0, 1.0))
        self.low, self.high = float(known[0]), float(known[-1])
        centres = np.interp((np.arange(units) + 0.5) / units, np.linspace(0, 1, len(known)), known)
        edges = np.concatenate([[self.low], centres, [self.high]])
        # Equal returns-to-go give equal quantiles. A width must not be 0.
        least = max(self.high - self.low, 1e-6) / 500
        widths = np.maximum((edges[2:] - edges[:-2]) / 2, least)
        self.slope = nn.Parameter(torch.tensor(1 / widths, dtype=torch.float32))
        self.shift = nn.Parameter(torch.tensor(-centres / widths, dtype=torch.float32))

    def forward(self, rtg: Tensor) -> Tensor:
        """Encode scaled returns-to-go `[..., 1] -> [..., U]`."""
        return torch.tanh(rtg.clamp(self.low, self.high) * self.slope + self.shift)


class StreamEmbedding(nn.Module):
    """Embed a step as `x_t = (1 + g(R_t)) * LN(W_s s_t + W_a a_(t-1)) + b(R_t)`.

    The return-to-go gates and shifts the token, so large states and actions cannot hide it. A balanced sum of the three
    inputs returned 500 on CartPole at a target of 29.
    """

    def __init__(
        self, state_dim: int, action_dim: int, discrete: bool, d_model: int, quantiles: tuple[float, ...] | None
    ) -> None:
        super().__init__()
        self.code = ReturnCode(quantiles)
        self.gate = nn.Linear(RETURN_UNITS, 2 * d_model)
        self.state = nn.Linear(state_dim, d_model)
        self.action = nn.Embedding(action_dim, d_model) if discrete else nn.Linear(action_dim, d_model, bias=False)
        nn.init.normal_(self.action.weight, std=INITIAL_SCALE)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, rtg: Tensor, states: Tensor, previous: Tensor, known: Tensor) -> Tensor:
        """Return tokens `[T, B, D]`.

        `rtg` is `[T, B, 1]`. `previous` holds the actions of the steps before. `known [T, B, 1]` is False where there
        is none.
        """
        gain, shift = self.gate(self.code(rtg)).chunk(2, dim=-1)  # [T, B, 2 D] -> [T, B, D] each
        x = self.norm(self.state(states) + self.action(previous) * known)
        return torch.addcmul(shift, x, 1 + gain)
