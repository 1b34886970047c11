"""Leaky integrate-and-fire neurons: a state goes in, a state comes out, nothing is kept in between.

Shapes: `current` [T, ...], spikes [T, ...], `v_mem` [...]; `...` is any, usually [B, L, D].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from snn_dt.snn import variants
from snn_dt.snn.norm_rate import norm_rate
from snn_dt.snn.parameters import LIFParameters, LIFState
from snn_dt.snn.scan import HALF, lif_rate, lif_scan

LEARNABLE = ("tau_mem", "v_threshold")


class LIF(nn.Module):
    """Leaky integrate-and-fire, charge-fire-reset within one step.

    ```
    h = V + dt/tau_mem (V_rest - V) + dt C_m I
    s = [h >= V_th]                                      a tie fires; backwards ds/dh = psi_k(h - V_th)
    V = (1 - s) h + s V_rest (hard), h - s (V_th - V_rest) (soft), h (none)
    ```

    `detach_reset` takes the reset out of the backward pass. `surrogate_slope` may be assigned at any time: it never
    touches the forward pass. Values out of range raise `ValueError`.

    Options that run in plain torch only, with their equations in `snn_dt.snn.variants.step`: `reset_order="delayed"`;
    `threshold_adaptation` (volts per trace of spikes: ALIF), `current_adaptation` (volts per spike) and
    `voltage_adaptation` (volts per volt), which decay with `tau_adaptation`; `learnable`, some of `tau_mem` and
    `v_threshold`, one of each for each of the `neurons` of the last axis (1: shared). Learned values stay in range:
    `dt/tau_mem` is a sigmoid, `V_th - V_rest` a softplus.

    Source: the order of SpikingJelly and Norse; `psi_k` in `snn_dt.snn.surrogate`.
    """

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
            raw_leak = nn.Parameter(torch.full((neurons,), math.log(p.leak / (1.0 - p.leak))))
        if "v_threshold" in learnable:
            height = v_threshold - v_rest
            raw_threshold = nn.Parameter(torch.full((neurons,), height + math.log(-math.expm1(-height))))
        self._kernels = True
        self.register_parameter("raw_leak", raw_leak)
        self.register_parameter("raw_threshold", raw_threshold)

    @property
    def _fused(self) -> bool:
        """Whether the kernels compute this neuron: looked up, as its constants may be replaced at any time."""
        return self._kernels and self.constants.plain and self.raw_leak is None and self.raw_threshold is None

    @_fused.setter
    def _fused(self, fused: bool) -> None:
        self._kernels = fused

    @property
    def leak(self) -> Tensor | float:
        """`dt / tau_mem`, a tensor where it is learned."""
        return self.constants.leak if self.raw_leak is None else torch.sigmoid(self.raw_leak)

    @property
    def tau_mem(self) -> Tensor | float:
        """The time constant of the membrane, a tensor where it is learned."""
        return self.constants.tau_mem if self.raw_leak is None else self.constants.dt / self.leak

    @property
    def v_threshold(self) -> Tensor | float:
        """The threshold, a tensor where it is learned."""
        p = self.constants
        return p.v_threshold if self.raw_threshold is None else p.v_rest + softplus(self.raw_threshold)

    @property
    def surrogate_slope(self) -> float:
        """`k`, in 1 / volt."""
        return self.constants.surrogate_slope

    @surrogate_slope.setter
    def surrogate_slope(self, slope: float) -> None:
        self.constants = replace(self.constants, surrogate_slope=float(slope))

    def forward(self, current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Integrate `current` [T, ...] from `state` (`None`: at rest); return spikes [T, ...] and the next state."""
        return self.integrate(current, state)

    def integrate(self, current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Do what `LIF.forward` says; with `rate`, all that a layer built on `LIF` has its neurons do."""
        if self._fused:
            spikes, v_mem = lif_scan(current, None if state is None else state.v_mem, self.constants)
            return spikes, LIFState(v_mem)
        spikes, state = variants.scan(_single(current), state, self.constants, self.leak, self.v_threshold)
        return spikes.to(current.dtype), state

    def rate(self, current: Tensor, sim_steps: int) -> Tensor:
        """Return the mean spike over `sim_steps` steps of the constant `current` [...], from rest: in [0, 1]."""
        if self._fused:
            return lif_rate(current, sim_steps, self.constants)
        rate = variants.rate(_single(current), sim_steps, self.constants, self.leak, self.v_threshold)
        return rate.to(current.dtype)

    def extra_repr(self) -> str:
        """Show the constants that are not the default."""
        values = ((field, getattr(self.constants, field.name)) for field in fields(self.constants))
        return ", ".join(f"{field.name}={value!r}" for field, value in values if value != field.default)


def _is_plain(norm: nn.Module) -> bool:
    """Tell whether a kernel may stand for calling this norm: torch's own, with weights, heard by nobody."""
    plain = type(norm) is nn.LayerNorm and norm.weight is not None and norm.bias is not None
    return plain and not (norm._forward_hooks or norm._forward_pre_hooks)


def _single(current: Tensor) -> Tensor:
    return current.float() if current.dtype in HALF else current


class RateLIF(LIF):
    """`LIF.rate` with `sim_steps` fixed, as a module: `forward(current [..., D]) -> rate`; options as in `LIF`.

    With `norm_width` D the current is first layer-normalised, in one pass with the neurons where there is a kernel.
    """

    def __init__(self, sim_steps: int, norm_width: int | None = None, **lif: Any) -> None:
        super().__init__(**lif)
        if sim_steps < 1:
            raise ValueError(f"sim_steps: expected at least 1; found {sim_steps!r}")
        self.sim_steps = sim_steps
        self.norm = None if norm_width is None else nn.LayerNorm(norm_width)

    def forward(self, current: Tensor) -> Tensor:
        """Return the mean of `sim_steps` spikes per neuron, shape of `current`."""
        if self.norm is None:
            return self.rate(current, self.sim_steps)
        if self._fused and type(self).rate is LIF.rate and _is_plain(self.norm):
            return norm_rate(current, self.norm, self.sim_steps, self.constants)
        return self.rate(self.norm(current), self.sim_steps)

    def extra_repr(self) -> str:
        """Show the steps and the constants that are not the default."""
        return ", ".join(filter(None, (f"sim_steps={self.sim_steps}", super().extra_repr())))
