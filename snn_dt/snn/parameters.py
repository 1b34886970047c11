"""Constants and state of a leaky integrate-and-fire neuron. Constants are checked at construction."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from snn_dt.snn.surrogate import SURROGATES, get_surrogate

RESETS = ("hard", "soft", "none")
RESET_ORDERS = ("charge_fire_reset", "delayed")


class LIFState(NamedTuple):
    """State of a neuron between two calls. Each part is [...]; `None` stands for rest.

    `v_mem` is the membrane after the last reset (before it if `reset_order` is `delayed`). `spike_trace` is b of
    threshold adaptation. `adaptation` is w of current adaptation.
    """

    v_mem: Tensor
    spike_trace: Tensor | None = None
    adaptation: Tensor | None = None


class Coefficients(NamedTuple):
    """Coefficients of the kernels. Every reset is `V = s ? keep h + add : h`. `attach` is 0 if it is detached."""

    leak: float
    gain: float
    v_rest: float
    v_threshold: float
    slope: float
    keep: float
    add: float
    attach: float
    surrogate: int  # place in `SURROGATES`


@dataclass(frozen=True)
class LIFParameters:
    """Constants of `snn_dt.snn.neurons.LIF`. A value out of range raises `ValueError`.

    Times are in simulation steps. Potentials, `c_m * current` and adaptations share one arbitrary unit of voltage.
    `slope` is `surrogate_slope` as a tensor. A compiled graph takes a tensor as an input and would fix a number.
    `plain` is True for neurons of the fused kernels: reset within the step and no adaptation.
    """

    slope: ClassVar[Tensor]
    plain: ClassVar[bool]
    _tensors: ClassVar[dict[tuple[torch.device, torch.dtype], Tensor]]

    tau_mem: float = 2.0
    dt: float = 1.0
    c_m: float = 1.0
    v_rest: float = 0.0
    v_threshold: float = 1.0
    reset: str = "hard"
    detach_reset: bool = False
    surrogate: str = "fast_sigmoid"
    surrogate_slope: float = 10.0
    reset_order: str = "charge_fire_reset"
    threshold_adaptation: float = 0.0
    current_adaptation: float = 0.0
    voltage_adaptation: float = 0.0
    tau_adaptation: float = 20.0

    def __post_init__(self) -> None:
        for name in ("tau_mem", "dt", "c_m", "surrogate_slope", "tau_adaptation"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a positive number; found {value!r}")
        if self.dt > min(self.tau_mem, self.tau_adaptation):
            least = f"tau_mem = {self.tau_mem!r} and tau_adaptation = {self.tau_adaptation!r}"
            raise ValueError(f"dt: expected at most {least}, or the leak overshoots rest; found {self.dt!r}")
        if not (math.isfinite(self.v_rest) and math.isfinite(self.v_threshold) and self.v_threshold > self.v_rest):
            raise ValueError(
                f"v_threshold: expected a number above v_rest = {self.v_rest!r}, below it a neuron fires at rest; "
                f"found {self.v_threshold!r}"
            )
        for name, known in (("reset", RESETS), ("reset_order", RESET_ORDERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}; found {getattr(self, name)!r}")
        for name in ("threshold_adaptation", "current_adaptation", "voltage_adaptation"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}: expected a finite number; found {getattr(self, name)!r}")
        get_surrogate(self.surrogate)
        object.__setattr__(self, "slope", torch.tensor(self.surrogate_slope, dtype=torch.float64))
        object.__setattr__(self, "_tensors", {})
        adapts = self.threshold_adaptation or self.current_adaptation or self.voltage_adaptation
        # Not a cached property, because its lock would break a compiled graph. The dataclass is frozen.
        object.__setattr__(self, "plain", self.reset_order == "charge_fire_reset" and not adapts)

    @property
    def leak(self) -> float:
        """`dt / tau_mem`: the fraction of `V_rest - V` that leaks in one step."""
        return self.dt / self.tau_mem

    @property
    def gain(self) -> float:
        """`dt C_m`: volts per unit of current in one step."""
        return self.dt * self.c_m

    @cached_property
    def coefficients(self) -> Coefficients:
        """Coefficients of the fused kernels."""
        keep, add = {
            "hard": (0.0, self.v_rest),
            "soft": (1.0, -(self.v_threshold - self.v_rest)),
            "none": (1.0, 0.0),
        }[self.reset]
        attach, surrogate = float(not self.detach_reset), list(SURROGATES).index(self.surrogate)
        return Coefficients(
            self.leak, self.gain, self.v_rest, self.v_threshold, self.surrogate_slope, keep, add, attach, surrogate
        )

    def on(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the coefficients except the surrogate as a tensor.

        The tensor is cached, so it lives as long as this object and keeps its address.
        """
        if (device, dtype) not in self._tensors:
            self._tensors[device, dtype] = torch.tensor(self.coefficients[:-1], dtype=dtype, device=device)
        return self._tensors[device, dtype]
