"""Spiking layers: an optional layer norm of the current followed by neurons. They differ in how time is handled.

| layer    | input -> output                                     | neurons run for                          |
|----------|-----------------------------------------------------|------------------------------------------|
| RateLIF  | current [B, L, D] -> rate [B, L, D]                 | T steps of a constant current, from rest |
| TimedLIF | current [(T,) B, L, D] -> spikes [T, B, L, D]       | T steps of a current, from rest          |
| TokenLIF | current [T, B, D], membrane -> spikes, membrane     | one step per token, from a state         |

The neurons are `LIF` with the given options or any other `Neuron`. Half precision is preserved.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from snn_dt.errors import ConfigError
from snn_dt.snn.goal_norm import GoalNorm
from snn_dt.snn.neurons import LIF, Neuron
from snn_dt.snn.norm_rate import norm_rate
from snn_dt.snn.parameters import LIFParameters, LIFState

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class SpikingLayer(nn.Module):
    """Base class of the spiking layers.

    Args:
        norm_width: width D of a layer norm before the neurons. None means no norm.
        neuron: the neurons. None stands for `LIF` with the options `lif`.
        **lif: arguments of `LIF`.

    Attributes:
        sim_steps: number of simulation steps T of a rate or spike train of this layer.
    """

    sim_steps: int = 1

    def __init__(self, norm_width: int | None = None, neuron: Neuron | None = None, **lif: Any) -> None:
        super().__init__()
        self.neuron = LIF(**lif) if neuron is None else neuron
        self.norm = None if norm_width is None else nn.LayerNorm(norm_width)

    @property
    def _fused(self) -> bool:
        """Whether the kernels compute the neurons."""
        return self.neuron._fused

    @property
    def constants(self) -> LIFParameters:
        """Constants of `LIF` neurons. Other neurons have none."""
        neuron: Any = self.neuron
        constants: LIFParameters = neuron.constants
        return constants

    @constants.setter
    def constants(self, constants: LIFParameters) -> None:
        neuron: Any = self.neuron
        neuron.constants = constants

    @property
    def surrogate_slope(self) -> float:
        """Surrogate slope `k` of the neurons."""
        return self.neuron.surrogate_slope

    @surrogate_slope.setter
    def surrogate_slope(self, slope: float) -> None:
        self.neuron.surrogate_slope = slope

    def firing(self, output: Any) -> tuple[Tensor, int]:
        """Return the firing rate of an output of this layer and the number of steps that it is averaged over."""
        raise NotImplementedError

    def train_of_last_token(self, inputs: tuple[Any, ...], output: Any) -> Tensor:
        """Return the spikes `[T, D]` of the last token in the first row of one call."""
        current = inputs[0][..., 0, -1, :]  # [D] or [T, D]
        current = current if self.norm is None else self.norm(current)
        spikes: Tensor = self.neuron(current.expand(self.sim_steps, current.shape[-1]))[0]  # [T, D]
        return spikes

    def extra_repr(self) -> str:
        """Show the number of steps in `repr`."""
        return f"sim_steps={self.sim_steps}"


class RateLIF(SpikingLayer):
    """Mean spike rate over `sim_steps` steps of a constant current: `forward(current [..., D]) -> rate [..., D]`.

    A kernel computes the norm and the neurons in one pass if there is one.
    """

    def __init__(self, sim_steps: int, norm_width: int | None = None, neuron: Neuron | None = None, **lif: Any) -> None:
        super().__init__(norm_width, neuron, **lif)
        if sim_steps < 1:
            raise ValueError(f"sim_steps: expected at least 1; found {sim_steps!r}")
        self.sim_steps = sim_steps

    def forward(self, current: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Return the mean of `sim_steps` spikes per neuron in the shape of `current`."""
        neuron = self.neuron
        if self.norm is None:
            return neuron.rate(current, self.sim_steps)
        # A subclass that overrides `rate` or a norm with hooks must run as modules.
        if neuron._fused and type(neuron).rate is LIF.rate and _is_plain(self.norm):
            return norm_rate(current, self.norm, self.sim_steps, self.constants)
        return neuron.rate(self.norm(current), self.sim_steps)

    def firing(self, output: Tensor) -> tuple[Tensor, int]:
        """Return the output, which is a rate."""
        return output, self.sim_steps


class TimedLIF(SpikingLayer):
    """Spike trains from rest: `forward(current [(T,) B, L, D]) -> spikes [T, B, L, D]`."""

    def __init__(self, sim_steps: int, norm_width: int | None = None, neuron: Neuron | None = None, **lif: Any) -> None:
        super().__init__(norm_width, neuron, **lif)
        self.sim_steps = sim_steps

    def forward(self, current: Float[Tensor, "*t B L D"]) -> Float[Tensor, "T B L D"]:
        """Return the spikes of each step. A current without a time axis is constant over the steps."""
        if self.norm is not None:
            current = self.norm(current)
        if current.dim() == 3:
            current = current.expand(self.sim_steps, *current.shape)  # [T, B, L, D]
        spikes: Tensor = self.neuron(current)[0]
        return spikes

    def firing(self, output: Tensor) -> tuple[Tensor, int]:
        """Return the mean over the steps [T, B, L, D] -> [B, L, D] and T."""
        return output.mean(0), len(output)


class TokenLIF(SpikingLayer):
    """One step per token: `forward(current [T, B, D], valid, v_mem) -> spikes [T, B, D], v_mem [B, D]`.

    Here T is the number of tokens. The current of a pad is 0, so a neuron at rest stays at rest.

    Raises:
        ConfigError: the state of `neuron` is more than a membrane. The rest would be lost between decisions.
    """

    def __init__(self, norm_width: int | None = None, neuron: Neuron | None = None, **lif: Any) -> None:
        super().__init__(norm_width, neuron, **lif)
        if neuron is not None and not neuron.membrane_only:
            raise ConfigError(
                f"model.neuron: expected a neuron whose state is one membrane for snn_dt_stream, found "
                f"{type(neuron).__name__}, which does not say `membrane_only = True`; choose another neuron or kind"
            )

    def forward(
        self, current: Float[Tensor, "T B D"], valid: Bool[Tensor, "T B 1"], v_mem: Float[Tensor, "B D"] | None
    ) -> tuple[Float[Tensor, "T B D"], Float[Tensor, "B D"]]:
        """Advance over the tokens of `current`. `valid` is False on pads. `v_mem=None` is rest."""
        if self.norm is not None:
            current = self.norm(current)
        spikes, state = self.neuron(current * valid, None if v_mem is None else LIFState(v_mem))
        return spikes, state.v_mem

    def firing(self, output: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        """Return the mean over the tokens [T, B, D] -> [B, D] and T."""
        return output[0].mean(0), len(output[0])

    def train_of_last_token(self, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> Tensor:
        """Return the spikes of the last token `[1, D]`. Each token is one step of the neurons."""
        return output[0][-1, :1]  # [T, B, D] -> [1, D]


def spiking_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return by name the spiking layers and the neurons outside of such layers."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, SpikingLayer)}
    inside = {layer.neuron for layer in layers.values() if isinstance(layer, SpikingLayer)}
    return {n: m for n, m in model.named_modules() if n in layers or (isinstance(m, Neuron) and m not in inside)}


def _is_plain(norm: nn.Module) -> bool:
    """Return whether a kernel may replace this norm: one affine map for all rows, and no hooks."""
    one_map = type(norm) is nn.LayerNorm or (isinstance(norm, GoalNorm) and norm.goals is None)
    plain = one_map and norm.weight is not None and norm.bias is not None
    return plain and not (norm._forward_hooks or norm._forward_pre_hooks)
