"""Layers of neurons: an optional layer norm of the current, then neurons, in three ways through time.

| layer    | input -> output                                     | neurons run for                          |
|----------|-----------------------------------------------------|------------------------------------------|
| RateLIF  | current [B, L, D] -> rate [B, L, D]                 | T steps of a constant current, from rest |
| TimedLIF | current [(T,) B, L, D] -> spikes [T, B, L, D]       | T steps of a current, from rest          |
| TokenLIF | current [T, B, D], membrane -> spikes, membrane     | one step per token, from a state         |

The neurons are `LIF` with the given options, or any other `Neuron`. Half precision stays half precision.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from snn_dt.errors import ConfigError
from snn_dt.snn.neurons import LIF, Neuron
from snn_dt.snn.norm_rate import norm_rate
from snn_dt.snn.parameters import LIFParameters, LIFState

if TYPE_CHECKING:
    from jaxtyping import Bool, Float


class SpikingLayer(nn.Module):
    """What the layers have in common.

    Args:
        norm_width: D of a layer norm in front of the neurons; None: no norm.
        neuron: the neurons; None: `LIF` with the options `lif`.
        **lif: arguments of `LIF`.

    Attributes:
        sim_steps: simulation steps T that a rate or a train of this layer stands for.
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
        """The constants of `LIF` neurons; other neurons have none."""
        neuron: Any = self.neuron
        constants: LIFParameters = neuron.constants
        return constants

    @constants.setter
    def constants(self, constants: LIFParameters) -> None:
        neuron: Any = self.neuron
        neuron.constants = constants

    @property
    def surrogate_slope(self) -> float:
        """`k` of the neurons."""
        return self.neuron.surrogate_slope

    @surrogate_slope.setter
    def surrogate_slope(self, slope: float) -> None:
        self.neuron.surrogate_slope = slope

    def firing(self, output: Any) -> tuple[Tensor, int]:
        """Return the firing rate that an output of this layer stands for, and over how many steps it is a mean."""
        raise NotImplementedError

    def train_of_last_token(self, inputs: tuple[Any, ...], output: Any) -> Tensor:
        """Return the spikes `[T, D]` of the first row's last token, of one call."""
        current = inputs[0][..., 0, -1, :]  # [D] or [T, D]
        current = current if self.norm is None else self.norm(current)
        spikes: Tensor = self.neuron(current.expand(self.sim_steps, current.shape[-1]))[0]
        return spikes

    def extra_repr(self) -> str:
        """Show the steps."""
        return f"sim_steps={self.sim_steps}"


class RateLIF(SpikingLayer):
    """Mean spike rate over `sim_steps` steps of a constant current: `forward(current [..., D]) -> rate [..., D]`.

    Where there is a kernel, the norm and the neurons are one pass.
    """

    def __init__(self, sim_steps: int, norm_width: int | None = None, neuron: Neuron | None = None, **lif: Any) -> None:
        super().__init__(norm_width, neuron, **lif)
        if sim_steps < 1:
            raise ValueError(f"sim_steps: expected at least 1; found {sim_steps!r}")
        self.sim_steps = sim_steps

    def forward(self, current: Float[Tensor, "*N D"]) -> Float[Tensor, "*N D"]:
        """Return the mean of `sim_steps` spikes per neuron, shape of `current`."""
        neuron = self.neuron
        if self.norm is None:
            return neuron.rate(current, self.sim_steps)
        # A subclass with a rate of its own, or a norm that somebody watches, is computed as it is written.
        if neuron._fused and type(neuron).rate is LIF.rate and _is_plain(self.norm):
            return norm_rate(current, self.norm, self.sim_steps, self.constants)
        return neuron.rate(self.norm(current), self.sim_steps)

    def firing(self, output: Tensor) -> tuple[Tensor, int]:
        """Return the output, a rate already."""
        return output, self.sim_steps


class TimedLIF(SpikingLayer):
    """Spike trains from rest: `forward(current [B, L, D] or [T, B, L, D]) -> spikes [T, B, L, D]`."""

    def __init__(self, sim_steps: int, norm_width: int | None = None, neuron: Neuron | None = None, **lif: Any) -> None:
        super().__init__(norm_width, neuron, **lif)
        self.sim_steps = sim_steps

    def forward(self, current: Float[Tensor, "*t B L D"]) -> Float[Tensor, "T B L D"]:
        """Return the spikes of each step; a current without a time axis is the same in all of them."""
        if self.norm is not None:
            current = self.norm(current)
        if current.dim() == 3:
            current = current.expand(self.sim_steps, *current.shape)  # [T, B, L, D]
        spikes: Tensor = self.neuron(current)[0]
        return spikes

    def firing(self, output: Tensor) -> tuple[Tensor, int]:
        """Return the mean over the steps `[B, L, D]`."""
        return output.mean(0), len(output)


class TokenLIF(SpikingLayer):
    """One step per token: `forward(current [T, B, D], valid, v_mem) -> spikes [T, B, D], v_mem [B, D]`.

    Here T counts tokens. The current of a pad is 0, so that a neuron at rest stays at rest.

    Raises:
        ConfigError: the state of `neuron` is more than a membrane, and would be lost between two decisions.
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
        """Advance over `current`; `valid [T, B, 1]` is False on pads, `v_mem` None is rest."""
        if self.norm is not None:
            current = self.norm(current)
        spikes, state = self.neuron(current * valid, None if v_mem is None else LIFState(v_mem))
        return spikes, state.v_mem

    def firing(self, output: tuple[Tensor, Tensor]) -> tuple[Tensor, int]:
        """Return the mean over the tokens `[B, D]`."""
        return output[0].mean(0), len(output[0])

    def train_of_last_token(self, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> Tensor:
        """Return the spikes of the last token `[1, D]`: its time is the trajectory."""
        return output[0][-1, :1]


def spiking_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers of neurons by name, and neurons that are in none."""
    layers = {name: m for name, m in model.named_modules() if isinstance(m, SpikingLayer)}
    inside = {layer.neuron for layer in layers.values() if isinstance(layer, SpikingLayer)}
    return {n: m for n, m in model.named_modules() if n in layers or (isinstance(m, Neuron) and m not in inside)}


def _is_plain(norm: nn.Module) -> bool:
    """Tell whether a kernel may replace the call of this norm: torch's own, with weights and without hooks."""
    plain = type(norm) is nn.LayerNorm and norm.weight is not None and norm.bias is not None
    return plain and not (norm._forward_hooks or norm._forward_pre_hooks)
