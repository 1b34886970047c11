"""Leaky integrate-and-fire neurons: a state goes in, a state comes out, nothing is kept in between.

Shapes: `current` [T, ...], spikes [T, ...], `v_mem` [...]; `...` is any, usually [B, L, D].
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.scan import lif_rate, lif_scan


class LIFState(NamedTuple):
    """What a neuron carries from one call to the next: `v_mem` [...], the membrane after the last reset."""

    v_mem: Tensor


class LIF(nn.Module):
    """Leaky integrate-and-fire, charge-fire-reset within one step.

    ```
    h = V + dt/tau_mem (V_rest - V) + dt C_m I
    s = [h >= V_th]                                      a tie fires; backwards ds/dh = psi_k(h - V_th)
    V = (1 - s) h + s V_rest (hard), h - s (V_th - V_rest) (soft), h (none)
    ```

    `detach_reset` takes the reset out of the backward pass. `surrogate_slope` may be assigned at any time: it never
    touches the forward pass. Values out of range raise `ValueError`.

    Source: the order of SpikingJelly and Norse, not snnTorch's delayed one; `psi_k` in `snn_dt.snn.surrogate`.
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
    ) -> None:
        super().__init__()
        self.constants = LIFParameters(
            tau_mem, dt, c_m, v_rest, v_threshold, reset, detach_reset, surrogate, surrogate_slope
        )

    @property
    def surrogate_slope(self) -> float:
        """`k`, in 1 / volt."""
        return self.constants.surrogate_slope

    @surrogate_slope.setter
    def surrogate_slope(self, slope: float) -> None:
        self.constants = replace(self.constants, surrogate_slope=float(slope))

    def forward(self, current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Integrate `current` [T, ...] from `state` (`None`: at rest); return spikes [T, ...] and the next state."""
        spikes, v_mem = lif_scan(current, None if state is None else state.v_mem, self.constants)
        return spikes, LIFState(v_mem)

    def rate(self, current: Tensor, sim_steps: int) -> Tensor:
        """Return the mean spike over `sim_steps` steps of the constant `current` [...], from rest: in [0, 1]."""
        return lif_rate(current, sim_steps, self.constants)

    def extra_repr(self) -> str:
        """Show the constants."""
        return ", ".join(f"{name}={value!r}" for name, value in asdict(self.constants).items())


class RateLIF(LIF):
    """`LIF.rate` with `sim_steps` fixed, as a module: `forward(current [...]) -> rate [...]`; options as in `LIF`."""

    def __init__(self, sim_steps: int, **lif: Any) -> None:
        super().__init__(**lif)
        if sim_steps < 1:
            raise ValueError(f"sim_steps: expected at least 1; found {sim_steps!r}")
        self.sim_steps = sim_steps

    def forward(self, current: Tensor) -> Tensor:
        """Return the mean of `sim_steps` spikes per neuron, shape of `current`."""
        return self.rate(current, self.sim_steps)

    def extra_repr(self) -> str:
        """Show the steps and the constants."""
        return f"sim_steps={self.sim_steps}, {super().extra_repr()}"
