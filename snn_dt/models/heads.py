"""Prediction heads: a linear read-out or the firing rates of neuron populations.

B batch, L tokens, D width, A actions or action dimensions, P neurons per action, T simulation steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.errors import ConfigError
from snn_dt.model_config import ModelConfig
from snn_dt.models.interface import TaskShape
from snn_dt.models.layers import ActionHead, CompositeHead
from snn_dt.snn import Neuron, RateLIF, build_neuron

EPS_RATE = 1e-4  # weight, in rates, of the middle of the bounds: the action of a silent population


class PopulationDecode(nn.Module):
    """Decode rates `[..., A P]` to logits or actions `[..., A]`. r_p is the rate of neuron p of an action.

    ```
    discrete    logit = 1/(P temperature) sum_p r_p
    bounded     a = (sum_p r_p c_p + eps middle) / (sum_p r_p + eps),    c_p evenly spaced from low to high bound
    ```

    The second form is the centre of mass of the neurons' preferred values (Georgopoulos et al. 1986). It is always
    within the bounds.
    """

    centres: Tensor

    def __init__(self, neurons: int, sim_steps: int, temperature: float, bounds: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.neurons, self.sim_steps, self.temperature = neurons, sim_steps, temperature
        self.bounded = bounds is not None
        if bounds is not None:
            share = torch.linspace(0, 1, neurons)
            centres = bounds[0].unsqueeze(-1) + (bounds[1] - bounds[0]).unsqueeze(-1) * share  # [A, P]
            self.register_buffer("centres", centres.float(), persistent=False)

    def forward(self, rates: Tensor) -> Tensor:
        """Map rates to logits or actions."""
        rates = rates.unflatten(-1, (-1, self.neurons))  # [..., A, P]
        if not self.bounded:
            return rates.mean(-1) / self.temperature
        middle = self.centres.mean(-1)
        return ((rates * self.centres).sum(-1) + EPS_RATE * middle) / (rates.sum(-1) + EPS_RATE)


class RateHead(nn.Module):
    """Predict from the mean rates of P neurons per action or action dimension over T steps.

    A linear layer maps D to A P currents. `RateLIF` and `PopulationDecode` follow. Cross-entropy of the logits equals
    that of `softmax(r / T)` in `snn_dt.experimental.rsnn.rates`: the gradient by the rate of a population is
    `(p - y) / temperature`.

    Attributes:
        bounded, low, high: as in `ActionHead`.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        d_model: int,
        action_dim: int,
        low: Tensor | None,
        high: Tensor | None,
        neurons: int,
        sim_steps: int,
        temperature: float,
        neuron: Neuron,
    ) -> None:
        super().__init__()
        self.bounded = low is not None and high is not None
        if low is not None and high is not None:
            self.register_buffer("low", low.float())
            self.register_buffer("high", high.float())
        self.synapses = nn.Linear(d_model, action_dim * neurons)
        nn.init.normal_(self.synapses.weight, std=d_model**-0.5)
        self.lif = RateLIF(sim_steps, neuron=neuron)
        bounds = (low, high) if low is not None and high is not None else None
        self.decode = PopulationDecode(neurons, sim_steps, temperature, bounds)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, L, D]` to logits or actions `[B, L, A]`."""
        return self.decode(self.lif(self.synapses(x)))  # [B, L, A P] -> [B, L, A]


def build_head(config: ModelConfig, task: TaskShape) -> ActionHead | RateHead:
    """Build the head `config.head` for the actions of a task. The nulls of `config` must be resolved.

    Raises:
        ConfigError: a rate head is selected for continuous actions without bounds, or for a composite action with
            numbers or bits.
    """
    if config.head == "linear":
        return linear_head(config, task)
    low, high = _bounds(task)
    choices = task.discrete or (task.action_parts is not None and min(task.action_parts) > 0)
    if not choices and (low is None or high is None or task.action_parts is not None):
        kind = "without finite bounds" if task.action_parts is None else "with bits, or numbers beside choices"
        raise ConfigError(
            f"model.head: expected linear for actions {kind}, found rate; a population stands for values between two "
            "bounds, or for one choice"
        )
    neurons, temperature = config.head_neurons, config.head_temperature
    neuron = build_neuron(config)
    return RateHead(config.d_model, task.action_dim, low, high, neurons, config.sim_steps, temperature, neuron)


def linear_head(config: ModelConfig, task: TaskShape) -> ActionHead:
    """Build a linear read-out for the actions of a task."""
    bounds = _bounds(task)
    if task.action_parts is not None and bounds[0] is not None:
        return CompositeHead(config.d_model, task.action_dim, *bounds, torch.tensor(task.number_columns))
    return ActionHead(config.d_model, task.action_dim, *bounds)


def _bounds(task: TaskShape) -> tuple[Tensor | None, Tensor | None]:
    low, high = (None if b is None else torch.tensor(b) for b in (task.action_low, task.action_high))
    return low, high
