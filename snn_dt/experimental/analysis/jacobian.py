"""Closed-form Jacobians of one step of a neuron, for all resets, reset orders and adaptations.

Shapes: `current` and each part of a state are [..., N]. A neuron's state has S parts: V, then the trace b if the
threshold adapts, then the current w with an adaptation current. psi is the surrogate derivative. A reset leaves h times
m. r is the derivative of V by a spike through the reset (0 if it is detached):

| reset | m     | r               |
|-------|-------|-----------------|
| hard  | 1 - s | V_rest - h      |
| soft  | 1     | -(V_th - V_rest)|
| none  | 1     | 0               |
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from snn_dt.snn.parameters import LIFParameters, LIFState
from snn_dt.snn.surrogate import get_surrogate
from snn_dt.snn.variants import Constant


class Linearised(NamedTuple):
    """Derivatives of one step of `variants.step` for each neuron.

    s is the spike of the step.

    | field | shape | derivative |
    |---|---|---|
    | `state` | [..., N, S, S] | `d(V', b', w') / d(V, b, w)` |
    | `grad_current` | [..., N, S] | `d(V', b', w') / dI` |
    | `spike` | [..., N, S] | `ds / d(V, b, w)` |
    | `spike_by_current` | [..., N] | `ds / dI` |
    """

    state: Tensor
    grad_current: Tensor
    spike: Tensor
    spike_by_current: Tensor


def parts(p: LIFParameters) -> list[int]:
    """Return the indices of (V, b, w) that are part of a neuron's state."""
    return [0, *[1] * bool(p.threshold_adaptation), *[2] * bool(p.current_adaptation or p.voltage_adaptation)]


def full_state(state: LIFState) -> tuple[Tensor, Tensor, Tensor]:
    """Return V, b and w. A missing trace is 0."""
    zero = torch.zeros_like(state.v_mem)
    b, w = (zero if part is None else part for part in state[1:])
    return state.v_mem, b, w


def linearise(current: Tensor, state: LIFState, p: LIFParameters, leak: Constant, v_threshold: Constant) -> Linearised:
    """Return the derivatives of `variants.step(current, state, p, leak, v_threshold)`.

    ```
    charge_fire_reset: dh = (1 - leak) dV - dw + gain dI      delayed: ds0 = psi0 (dV - beta db)
    ds  = psi (dh - beta db)                                  dV' = m dh + r ds0
    dV' = m dh + r ds                                         db' = rho db + ds0
    db' = rho db + ds                                         dw' = rho dw + a dV + c ds0
    dw' = rho dw + a dV' + c ds                               ds  = psi (dV' - beta db')
    ```

    Here beta is `threshold_adaptation`. c is `current_adaptation`. a is `voltage_adaptation`. rho is
    1 - dt/tau_adaptation.
    """
    v, b, w = full_state(state)
    beta, rho, delayed = p.threshold_adaptation, 1.0 - p.dt / p.tau_adaptation, p.reset_order == "delayed"
    h = v + leak * (p.v_rest - v) + p.gain * current - w  # charge
    u = (v if delayed else h) - v_threshold - beta * b  # distance to the threshold at the fire
    s, psi = (u >= 0).to(v), _psi(u, p)  # for `delayed` the spike of the previous step, s0
    one, zero = torch.ones_like(v), torch.zeros_like(v)
    m = one - s if p.reset == "hard" else one
    r = zero if p.detach_reset else {"hard": p.v_rest - h, "soft": p.v_rest - v_threshold + zero, "none": zero}[p.reset]

    # a derivative is a row [..., N, 4] by (V, b, w, I); these are the rows of V, b, w and I themselves
    dv, db, dw, di = (torch.stack([one if i == j else zero for j in range(4)], -1) for i in range(4))
    m, r, psi = m[..., None], r[..., None], psi[..., None]  # [..., N, 1], to scale rows
    dh = (1 - torch.as_tensor(leak, dtype=v.dtype, device=v.device).unsqueeze(-1)) * dv - dw + p.gain * di
    ds = psi * ((dv if delayed else dh) - beta * db)
    dv_next, db_next = m * dh + r * ds, rho * db + ds
    dw_next = rho * dw + p.voltage_adaptation * (dv if delayed else dv_next) + p.current_adaptation * ds
    # `delayed` fires after the reset: the spike of this step depends on V'
    if delayed:
        v_next = {"hard": (1 - s) * h + s * p.v_rest, "soft": h - s * (v_threshold - p.v_rest), "none": h}[p.reset]
        psi = _psi(v_next - v_threshold - beta * (rho * b + s), p)[..., None]
        ds = psi * (dv_next - beta * db_next)
    used = parts(p)
    rows = torch.stack([dv_next, db_next, dw_next], -2)[..., used, :]  # [..., N, S, 4]
    return Linearised(rows[..., used], rows[..., 3], ds[..., used], ds[..., 3])


def recurrent_jacobian(step: Linearised, weight: Tensor) -> Tensor:
    """Return the Jacobian [..., (S + 1) N, (S + 1) N] of a layer with the recurrent current `I = weight @ s`.

    The spikes s act one step later. The state is V of all N neurons, then b and w (if present), then s. `weight` is
    [N, N] (to, from). For `charge_fire_reset` without adaptation the non-zero eigenvalues are those of the map
    `(1 - leak) diag(m + r psi) + gain W diag(psi)` from h to the next h.
    """
    own = torch.cat([step.state, step.spike.unsqueeze(-2)], -2)  # [..., N, S + 1, S]
    grad_current = torch.cat([step.grad_current, step.spike_by_current.unsqueeze(-1)], -1)  # [..., N, S + 1]
    from_state = torch.diag_embed(own.movedim(-3, -1))  # [..., S + 1, S, N, N]
    from_spikes = grad_current.movedim(-1, -2).unsqueeze(-1) * weight  # [..., S + 1, N, N]
    blocks = torch.cat([from_state, from_spikes.unsqueeze(-3)], -3)  # [..., S + 1, S + 1, N, N]
    # rows and columns by (part, neuron): [..., S + 1, N, S + 1, N] -> [..., (S + 1) N, (S + 1) N]
    return blocks.movedim(-3, -2).flatten(-2).flatten(-3, -2)


def _psi(u: Tensor, p: LIFParameters) -> Tensor:
    return get_surrogate(p.surrogate).derivative(u, p.surrogate_slope)
