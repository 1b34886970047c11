"""Spiking neurons. A call maps currents and a state to spikes and the next state. Modules store no state.

Shapes: `current` and spikes [T, ...]; `v_mem` [...]. `...` is any shape, usually [B, L, D]. T is simulation time.

All neurons derive from `Neuron`. The layers of `snn_dt.snn.neuron_layers` contain one. `model.neuron` selects an entry
of the table `NEURONS`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from snn_dt.errors import ConfigError
from snn_dt.model_config import ModelConfig
from snn_dt.registry import NEURONS, register_neuron
from snn_dt.snn import variants
from snn_dt.snn.parameters import LIFParameters, LIFState
from snn_dt.snn.scan import HALF_TYPES, lif_rate, lif_scan

LEARNABLE = ("tau_mem", "v_threshold")
LIF_FIELDS = ("tau_mem", "v_threshold", "reset", "detach_reset", "surrogate", "surrogate_slope")
"""Fields of `ModelConfig` that are arguments of `LIF`."""


class Neuron(nn.Module):
    """Base class of neurons. A subclass defines `forward`. It can override `rate` with a faster computation.

    Attributes:
        surrogate_slope: slope k of the surrogate derivative. A schedule may assign it between updates.
        macs_per_update: multiply-accumulates of one update without the leak, which is counted as the update itself.
        membrane_only: the state is `LIFState(v_mem)` and 0 at rest. `snn_dt_stream` takes no other neurons.
    """

    surrogate_slope: float = 10.0
    macs_per_update: float = 0.0
    membrane_only: bool = False

    @property
    def _fused(self) -> bool:
        """Whether the C++ and Triton kernels compute this neuron."""
        return False

    def forward(self, current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Integrate `current` [T, ...]. Return spikes [T, ...] and the next state. `state=None` starts at rest."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method forward(current, state)")

    def rate(self, current: Tensor, sim_steps: int) -> Tensor:
        """Return the mean spike in [0, 1] over `sim_steps` steps of a constant `current` [...] from rest."""
        return self(current.expand(sim_steps, *current.shape))[0].mean(0)  # [T, ...] -> [...]


class LIF(Neuron):
    """Leaky integrate-and-fire, charge-fire-reset within one step.

    ```
    h = V + dt/tau_mem (V_rest - V) + dt C_m I
    s = [h >= V_th]                                      a tie fires; backwards ds/dh = psi_k(h - V_th)
    V = (1 - s) h + s V_rest (hard), h - s (V_th - V_rest) (soft), h (none)
    ```

    `detach_reset` removes the reset from the backward pass. `surrogate_slope` can be assigned at any time, because it
    does not change the forward pass. Values out of range raise `ValueError`.

    Some options run only in plain torch. `snn_dt.snn.variants.step` has their equations:

    - `reset_order="delayed"`.
    - `threshold_adaptation` (ALIF; volts per trace of spikes), `current_adaptation` (volts per spike) and
      `voltage_adaptation` (volts per volt). They decay with `tau_adaptation`.
    - `learnable`: a subset of `tau_mem` and `v_threshold`. Each of the `neurons` of the last axis has its own value.
      With `neurons=1` the value is shared. `dt/tau_mem` is a sigmoid and `V_th - V_rest` a softplus, so both stay in
      range.

    The order of operations is that of SpikingJelly and Norse. `snn_dt.snn.surrogate` defines `psi_k`.
    """

    raw_leak: nn.Parameter | None
    raw_threshold: nn.Parameter | None

    def __init__(
        self,
        tau_mem: float = 2.0,
        dt: float = 1.0,
        c_m: float = 1.0,
        v_rest: float = 0.0,
        v_threshold: float = 1.0,
        reset: str = "hard",
        detach_reset: bool = False,
        surrogate_slope: float = 10.0,
        surrogate: str = "fast_sigmoid",
        *,
        learnable: Sequence[str] = (),
        neurons: int = 1,
        **options: Any,
    ) -> None:
        super().__init__()
        self.constants = p = LIFParameters(
            tau_mem, dt, c_m, v_rest, v_threshold, reset, detach_reset, surrogate, surrogate_slope, **options
        )
        unknown = set(learnable) - set(LEARNABLE)
        if unknown or ("tau_mem" in learnable and p.leak == 1.0):
            raise ValueError(f"learnable: expected some of {LEARNABLE}, with tau_mem > dt; found {learnable!r}")
        raw_leak, raw_threshold = None, None
        if "tau_mem" in learnable:
            # inverse of the sigmoid in `leak`
            raw_leak = nn.Parameter(torch.full((neurons,), math.log(p.leak / (1.0 - p.leak))))
        if "v_threshold" in learnable:
            height = v_threshold - v_rest
            # inverse of the softplus in `v_threshold`, without overflow for large heights
            raw_threshold = nn.Parameter(torch.full((neurons,), height + math.log(-math.expm1(-height))))
        self._kernels = True
        self.register_parameter("raw_leak", raw_leak)
        self.register_parameter("raw_threshold", raw_threshold)

    @property
    def _fused(self) -> bool:
        """Whether the kernels compute this neuron. It is not cached, because the constants can be replaced."""
        return self._kernels and self.constants.plain and self.raw_leak is None and self.raw_threshold is None

    @_fused.setter
    def _fused(self, fused: bool) -> None:
        self._kernels = fused

    @property
    def leak(self) -> Tensor | float:
        """`dt / tau_mem`. It is a tensor if it is learned."""
        return self.constants.leak if self.raw_leak is None else torch.sigmoid(self.raw_leak)

    @property
    def tau_mem(self) -> Tensor | float:
        """Time constant of the membrane. It is a tensor if it is learned."""
        return self.constants.tau_mem if self.raw_leak is None else self.constants.dt / self.leak

    @property
    def v_threshold(self) -> Tensor | float:
        """Threshold. It is a tensor if it is learned."""
        p = self.constants
        return p.v_threshold if self.raw_threshold is None else p.v_rest + softplus(self.raw_threshold)

    @property
    def surrogate_slope(self) -> float:
        """Surrogate slope `k` in 1 / volt."""
        return self.constants.surrogate_slope

    @surrogate_slope.setter
    def surrogate_slope(self, slope: float) -> None:
        self.constants = replace(self.constants, surrogate_slope=float(slope))

    @property
    def macs_per_update(self) -> float:  # type: ignore[override]  # a property instead of an attribute
        """Multiplications of adaptation per update.

        A trace decays and is scaled: 2. An adaptation current decays: 1. Coupling to the voltage adds 1.
        """
        p = self.constants
        adapts = 2 * bool(p.threshold_adaptation) + bool(p.current_adaptation or p.voltage_adaptation)
        return adapts + bool(p.voltage_adaptation)

    @property
    def membrane_only(self) -> bool:  # type: ignore[override]  # a property instead of an attribute
        """Whether the neuron rests at 0 and has no adaptation."""
        return self.constants.v_rest == 0 and self.macs_per_update == 0

    def forward(self, current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Integrate `current` [T, ...]. Return spikes [T, ...] and the next state. `state=None` starts at rest."""
        return self.integrate(current, state)

    def integrate(self, current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Compute `forward` without calling hooks."""
        if self._fused:
            spikes, v_mem = lif_scan(current, None if state is None else state.v_mem, self.constants)
            return spikes, LIFState(v_mem)
        spikes, state = variants.scan(_single(current), state, self.constants, self.leak, self.v_threshold)
        return spikes.to(current.dtype), state

    def rate(self, current: Tensor, sim_steps: int) -> Tensor:
        """Return the mean spike in [0, 1] over `sim_steps` steps of a constant `current` [...] from rest."""
        if self._fused:
            return lif_rate(current, sim_steps, self.constants)
        rate = variants.rate(_single(current), sim_steps, self.constants, self.leak, self.v_threshold)
        return rate.to(current.dtype)

    def extra_repr(self) -> str:
        """Show the constants that differ from their defaults."""
        values = ((field, getattr(self.constants, field.name)) for field in fields(self.constants))
        return ", ".join(f"{field.name}={value!r}" for field, value in values if value != field.default)


def _single(current: Tensor) -> Tensor:
    """Return half precision as float32: a membrane sums many small steps."""
    return current.float() if current.dtype in HALF_TYPES else current


def build_neuron(config: ModelConfig) -> Neuron:
    """Build the neuron `config.neuron`. The nulls of `config` must be resolved.

    Raises:
        ConfigError: the neuron is unknown or the table entry does not build a `Neuron`.
    """
    neuron = NEURONS[config.neuron](config)
    if not isinstance(neuron, Neuron):
        raise ConfigError(
            f"model.neuron: expected {config.neuron!r} to build a snn_dt.snn.Neuron, found {type(neuron).__name__}; "
            "derive its class from Neuron"
        )
    return neuron


def _lif(config: ModelConfig, **options: Any) -> LIF:
    return LIF(**{name: getattr(config, name) for name in LIF_FIELDS}, **options)


def _parametric_lif(config: ModelConfig) -> LIF:
    """Build a LIF with one learned time constant per layer (PLIF, Fang et al. 2021)."""
    return _lif(config, learnable=("tau_mem",))


register_neuron("lif", _lif)
register_neuron("plif", _parametric_lif)
