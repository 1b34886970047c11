"""Linear layers, containers and the action head.

B batch, L tokens, D width, T simulation steps. Tensors between layers are either `[B, L, D]` or `[T, B, L, D]`. The
first form has one value for all steps (a constant current or a spike rate). The second has one value per step. Layers
without neurons take both forms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.models.norms import PTBN
from snn_dt.snn.spike_linear import spike_linear


class TimeMean(nn.Module):
    """Mean over simulation time: `[T, B, L, D] -> [B, L, D]`. A rate `[B, L, D]` is returned unchanged."""

    def forward(self, x: Tensor) -> Tensor:
        """Average over simulation time."""
        return x.mean(0) if x.dim() == 4 else x


class SpikeLinear(nn.Linear):
    """Linear layer with spikes as input: `y = W s + b`. `s` is binary spikes or rates in [0, 1] over T steps.

    `W r` of a rate r equals the mean of `W s_t` over the T steps. Event-driven hardware needs one accumulate per spike
    and output for both and no multiplication. The energy count multiplies a rate by `sim_steps` (T) to get spikes.
    """

    def __init__(self, in_features: int, out_features: int, sim_steps: int) -> None:
        super().__init__(in_features, out_features)
        self.sim_steps = sim_steps
        nn.init.normal_(self.weight, std=in_features**-0.5)
        nn.init.zeros_(self.bias)

    def forward(self, s: Tensor) -> Tensor:
        """Map spikes or rates `[..., in_features]` to currents `[..., out_features]`."""
        return spike_linear(s, self.weight, self.bias)


class MaskedSequential(nn.Sequential):
    """Modules in sequence; `PTBN` and other masked sequences among them also get the mask of valid tokens `[B, L]`."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]  # the mask is more than Sequential has
        """Apply the modules in order."""
        for part in self:
            x = self.call(part, x, valid)
        return x

    @staticmethod
    def call(part: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
        """Call a module, with the mask of valid tokens `valid [B, L]` if it takes one."""
        return part(x, valid) if isinstance(part, MaskedSequential | PTBN) else part(x)


Chain = MaskedSequential  # its name in 0.1.0


class ActionHead(nn.Linear):
    """Linear read-out of logits for discrete actions or of continuous actions.

    With finite bounds `tanh` maps the output into the bounds.

    Args:
        d_model: width of the input.
        action_dim: number of discrete actions or of action dimensions.
        low, high: bounds `[action_dim]` in environment units. None for discrete or unbounded actions.

    Attributes:
        plastic: weights `[action_dim, d_model]` that a policy adds to `weight` during an episode. They are not saved in
            checkpoints. None adds nothing.
    """

    low: Tensor
    high: Tensor

    def __init__(self, d_model: int, action_dim: int, low: Tensor | None = None, high: Tensor | None = None) -> None:
        super().__init__(d_model, action_dim)
        self.plastic: Tensor | None = None  # a plain attribute, so the state dict lacks it
        self.bounded = low is not None and high is not None
        if low is not None and high is not None:
            self.register_buffer("low", low.float())
            self.register_buffer("high", high.float())

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., d_model]` to logits or actions `[..., action_dim]`."""
        y = self.drive(x)
        if not self.bounded:
            return y
        # tanh in (-1, 1) -> (low, high)
        return self.low + (self.high - self.low) * (y.tanh() + 1) / 2

    def drive(self, x: Tensor) -> Tensor:
        """Return the weighted sum of the inputs before the bounds are applied."""
        return F.linear(x, self.weight if self.plastic is None else self.weight + self.plastic, self.bias)


class CompositeHead(ActionHead):
    """Read-out of a composite action whose numbers have bounds: `tanh` maps those into them, logits stay as they are.

    Args:
        d_model, action_dim, low, high: as in `ActionHead`. The bounds of logits are 0 and 1, their range in the data.
        numbers: which outputs `[action_dim]` are numbers.
    """

    numbers: Tensor

    def __init__(self, d_model: int, action_dim: int, low: Tensor | None, high: Tensor | None, numbers: Tensor) -> None:
        super().__init__(d_model, action_dim, low, high)
        self.register_buffer("numbers", numbers, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., d_model]` to numbers and logits `[..., action_dim]`."""
        y = self.drive(x)
        return torch.where(self.numbers, self.low + (self.high - self.low) * (y.tanh() + 1) / 2, y)
