"""Layers named by what drives them, so that energy accounting can tell an accumulate from a multiplication."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snn_dt.snn import RateLIF


class SpikeLinear(nn.Linear):
    """A linear layer fed by spikes: `y = W r + b`, where `r [..., in]` holds rates of T-step spike trains in [0, 1].

    `W r` equals the mean over the T steps of `W s_t`, so on event-driven hardware it costs one accumulate per spike and
    output, and no multiplication. `sim_steps` is T, by which a rate is turned back into spikes when they are counted.
    """

    def __init__(self, in_features: int, out_features: int, sim_steps: int) -> None:
        super().__init__(in_features, out_features)
        self.sim_steps = sim_steps
        nn.init.normal_(self.weight, std=in_features**-0.5)
        nn.init.zeros_(self.bias)


def spiking_projection(in_features: int, out_features: int, neuron: Callable[[], RateLIF], sim_steps: int) -> nn.Module:
    """Build `LIF(norm(W r + b))`: spikes in, spikes out."""
    return nn.Sequential(SpikeLinear(in_features, out_features, sim_steps), nn.LayerNorm(out_features), neuron())


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
