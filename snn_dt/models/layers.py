"""Layers named by what drives them, so that energy accounting can tell an accumulate from a multiplication."""

from __future__ import annotations

import math

from torch import Tensor, nn


class SpikeLinear(nn.Linear):
    """A linear layer fed by spikes: `y = W r + b`, where `r [..., in]` holds rates of T-step spike trains in [0, 1].

    `W r` equals the mean over the T steps of `W s_t`, so on event-driven hardware it costs one accumulate per spike and
    output, and no multiplication. Weights start at deviation `gain / sqrt(in)`: spikes of rate 0.1 to 0.3 then give
    currents near the threshold, where a surrogate gradient passes.

    Args:
        in_features, out_features: sizes.
        sim_steps: T, so that a rate can be turned back into spikes when they are counted.
        gain: see above.
    """

    def __init__(self, in_features: int, out_features: int, sim_steps: int, gain: float = 1.0) -> None:
        super().__init__(in_features, out_features)
        self.sim_steps = sim_steps
        nn.init.normal_(self.weight, std=gain / math.sqrt(in_features))
        nn.init.zeros_(self.bias)


class ActionHead(nn.Linear):
    """Read-out of a prediction: logits of discrete actions, or `tanh` stretched to finite action bounds.

    Args:
        d_model: width of the input.
        action_dim: number of discrete actions, or of action dimensions.
        low, high: bounds `[action_dim]` in environment units; None for discrete or unbounded actions.
    """

    low: Tensor
    high: Tensor

    def __init__(self, d_model: int, action_dim: int, low: Tensor | None = None, high: Tensor | None = None) -> None:
        super().__init__(d_model, action_dim)
        self.bounded = low is not None and high is not None
        if self.bounded:
            self.register_buffer("low", low.float())
            self.register_buffer("high", high.float())

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., d_model]` to logits or actions `[..., action_dim]`."""
        y = super().forward(x)
        if not self.bounded:
            return y
        return self.low + (self.high - self.low) * (y.tanh() + 1) / 2
