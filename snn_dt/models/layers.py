"""Layers named by what drives them, so that energy accounting can tell an accumulate from a multiplication.

What passes between layers is `[B, L, D]`, one value for all of simulation time (a constant current, a spike rate), or
`[T, B, L, D]`, one for each simulation step. Layers without neurons do not tell the two apart.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.snn.spike_linear import spike_linear


class TimeMean(nn.Module):
    """Spikes `[T, B, L, D]` to their mean rate `[B, L, D]`; a rate passes."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over simulation time."""
        return x.mean(0) if x.dim() == 4 else x


class SpikeLinear(nn.Linear):
    """A linear layer fed by spikes: `y = W s + b`, `s` binary spikes or rates of T-step spike trains in [0, 1].

    `W r` of a rate equals the mean over the T steps of `W s_t`, so on event-driven hardware either costs one accumulate
    per spike and output, and no multiplication. `sim_steps` is T, by which a rate is turned back into spikes when they
    are counted.
    """

    def __init__(self, in_features: int, out_features: int, sim_steps: int) -> None:
        super().__init__(in_features, out_features)
        self.sim_steps = sim_steps
        nn.init.normal_(self.weight, std=in_features**-0.5)
        nn.init.zeros_(self.bias)

    def forward(self, s: Tensor) -> Tensor:
        """Map spikes or rates `[..., in_features]` to currents `[..., out_features]`."""
        return spike_linear(s, self.weight, self.bias)


class Chain(nn.Sequential):
    """Modules in a row, of which those with a true `masked` are also told which tokens are real, `[B, L]`."""

    masked = True

    def forward(self, x: Tensor, real: Tensor) -> Tensor:  # type: ignore[override]  # the mask is more than Sequential has
        """Apply one after the other."""
        for part in self:
            x = through(part, x, real)
        return x


def through(part: nn.Module, x: Tensor, real: Tensor) -> Tensor:
    """Apply a module, with the mask if it asks for one."""
    return part(x, real) if getattr(part, "masked", False) else part(x)


class ActionHead(nn.Linear):
    """Read-out of a prediction: logits of discrete actions, or `tanh` stretched to finite action bounds.

    Args:
        d_model: width of the input.
        action_dim: number of discrete actions, or of action dimensions.
        low, high: bounds `[action_dim]` in environment units; None for discrete or unbounded actions.

    Attributes:
        plastic: what a policy has learned while it acts `[action_dim, d_model]`, on top of `weight`, which stays as it
            is; in no checkpoint. None: nothing.
    """

    low: Tensor
    high: Tensor

    def __init__(self, d_model: int, action_dim: int, low: Tensor | None = None, high: Tensor | None = None) -> None:
        super().__init__(d_model, action_dim)
        self.plastic: Tensor | None = None
        self.bounded = low is not None and high is not None
        if low is not None and high is not None:
            self.register_buffer("low", low.float())
            self.register_buffer("high", high.float())

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., d_model]` to logits or actions `[..., action_dim]`."""
        y = self.drive(x)
        if not self.bounded:
            return y
        return self.low + (self.high - self.low) * (y.tanh() + 1) / 2

    def drive(self, x: Tensor) -> Tensor:
        """Return what the synapses add up to, before the bounds."""
        return F.linear(x, self.weight if self.plastic is None else self.weight + self.plastic, self.bias)
