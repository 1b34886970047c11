"""Reference LIF recurrence in plain torch. Every faster backend must give the same result.

Shapes: `current` [T, ...], `v_mem` [...], spikes [T, ...].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.surrogate import Slope, spike

SpikeFunction = Callable[[Tensor, Slope, str], Tensor]
MAX_DRIVE = 1e30


def reset(h: Tensor, s: Tensor, p: LIFParameters, v_threshold: Tensor | float) -> Tensor:
    """Return the membrane after a reset by the spikes `s`. `detach_reset` cuts the gradient through `s`."""
    s = s.detach() if p.detach_reset else s
    if p.reset == "hard":
        return (1.0 - s) * h + s * p.v_rest
    if p.reset == "soft":
        return h - s * (v_threshold - p.v_rest)
    return h


class _Held(torch.autograd.Function):
    """Clamp to +-`MAX_DRIVE`; the gradient passes, as it does in the kernels."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clamp(-MAX_DRIVE, MAX_DRIVE)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def drive(current: Tensor, p: LIFParameters) -> Tensor:
    """Return `dt C_m I` clamped to +-1e30, so that no finite current makes a membrane infinite or NaN."""
    held: Tensor = _Held.apply(p.gain * current)
    return held


def lif_step(current: Tensor, v_mem: Tensor, p: LIFParameters, fire: SpikeFunction = spike) -> tuple[Tensor, Tensor]:
    """Advance the neurons by one step: charge, fire and reset.

    ```
    h = V + dt/tau_mem (V_rest - V) + dt C_m I        s = [h >= V_th]
    V' = (1 - s) h + s V_rest      hard
         h - s (V_th - V_rest)     soft
         h                         none
    ```

    Gradient checks pass `smooth_spike` as `fire`.
    """
    h = v_mem + p.leak * (p.v_rest - v_mem) + drive(current, p)
    s = fire(h - p.v_threshold, p.slope, p.surrogate)
    return s, reset(h, s, p, p.v_threshold)


def scan_reference(current: Tensor, v0: Tensor, p: LIFParameters, fire: SpikeFunction = spike) -> tuple[Tensor, Tensor]:
    """Run `lif_step` over the first axis of `current`. Return spikes [T, ...] and the last membrane [...]."""
    spikes, v_mem = [], v0
    # unbind instead of current[t]: the backward of each index adds a whole [T, ...] tensor, which costs O(T^2).
    for step in current.unbind(0):
        s, v_mem = lif_step(step, v_mem, p, fire)
        spikes.append(s)
    return (torch.stack(spikes) if spikes else torch.empty_like(current)), v_mem


def rate_reference(current: Tensor, sim_steps: int, p: LIFParameters, fire: SpikeFunction = spike) -> Tensor:
    """Return the mean spike in [0, 1] over `sim_steps` steps of a constant `current` [...] from rest."""
    count, v_mem = torch.zeros_like(current), torch.full_like(current, p.v_rest)
    for _ in range(sim_steps):
        s, v_mem = lif_step(current, v_mem, p, fire)
        count = count + s
    return count / sim_steps
