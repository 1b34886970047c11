r"""Recurrent LIF neurons: a fused scan over time with a hand-written gradient (BPTT or e-prop).

Shapes: T steps; B samples; N neurons. Currents and spikes are [T, B, N]. Each part of a state is [B, N]. `weight` is
[N, N] (to, from).

```
I = current_t + W z_(t-1)
charge_fire_reset                          delayed
h = V + leak (V_rest - V) + gain I         h = V + leak (V_rest - V) + gain I
u = h - V_th - beta b                      V = m h + (1 - m) V_rest + r' z_(t-1),  b = rho b + z_(t-1)
z_t = [u >= 0]                             u = V - V_th - beta b
V = m h + ..., b = rho b + z_t             z_t = [u >= 0]
```

m and r are those of `experimental/analysis/jacobian.py`. The equations are those of `snn/variants.py` with one beta per
neuron and a refractory time. Backward, with dz the derivative of the loss by a spike and psi the surrogate derivative:

```
dz_t += db [+ r dV]  + W^T dI_(t+1)       last term: the path through spikes of other neurons
g = psi_t dz_t,  dh and db carry g to t - 1 within the neuron
```

The last term is the only difference between BPTT and e-prop (Bellec et al. 2020). `local` omits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.surrogate import get_surrogate


class RecurrentState(NamedTuple):
    """State of the neurons: membrane, adaptation trace, last spikes and remaining refractory steps. Each is [B, N]."""

    v_mem: Tensor
    spike_trace: Tensor
    spikes: Tensor
    quiet: Tensor


class Steps(NamedTuple):
    """A run of T steps: spikes, `u` (distance to the threshold, -inf while refractory) and `h`, each [T, B, N]."""

    spikes: Tensor
    u: Tensor
    h: Tensor
    state: RecurrentState


class RecurrentLIF(nn.Module):
    """N leaky integrate-and-fire neurons, `forward(current, weight, state, local) -> (spikes, state)`.

    Args:
        neurons: N.
        adaptive: number of neurons at the end that have the adaptive threshold of `threshold_adaptation` (ALIF).
        refractory: steps after a spike in which a neuron cannot fire. The membrane evolves and the surrogate is 0.
        dampening: factor on the surrogate derivative (gamma / V_th in Bellec et al. 2020). Its peak is 1 without it.
        lif: constants of `snn_dt.snn.LIFParameters` without adaptation currents.

    Raises:
        ValueError: a constant is out of range.
    """

    beta: Tensor

    def __init__(
        self, neurons: int, adaptive: int = 0, refractory: int = 0, dampening: float = 1.0, **lif: Any
    ) -> None:
        super().__init__()
        self.constants = p = LIFParameters(**lif)
        if p.current_adaptation or p.voltage_adaptation:
            raise ValueError("current_adaptation, voltage_adaptation: expected 0 for recurrent neurons; use LIF")
        if not 0 <= adaptive <= neurons or refractory < 0:
            raise ValueError(f"expected 0 <= adaptive <= {neurons}, refractory >= 0; found {adaptive}, {refractory}")
        self.neurons, self.refractory, self.dampening = neurons, refractory, dampening
        adapts = torch.arange(neurons) >= neurons - adaptive  # the last `adaptive` neurons
        # [N]; 0 for neurons without adaptation. A constant of the config, so it is not saved
        self.register_buffer("beta", adapts.double() * p.threshold_adaptation, persistent=False)

    def rest(self, like: Tensor) -> RecurrentState:
        """Return the state at rest for currents `like` [..., B, N]."""
        v_mem = like.new_full(like.shape[-2:], self.constants.v_rest)
        return RecurrentState(v_mem, *(torch.zeros_like(v_mem) for _ in range(3)))

    def forward(
        self, current: Tensor, weight: Tensor | None = None, state: RecurrentState | None = None, local: bool = False
    ) -> tuple[Tensor, RecurrentState]:
        """Run over `current`, from rest if `state` is None; no gradient flows through the state.

        `local` omits the path through other neurons' spikes from the gradient (e-prop).
        """
        # without a gradient the scan need not keep anything for the backward pass
        if torch.is_grad_enabled() and (current.requires_grad or (weight is not None and weight.requires_grad)):
            scan: Any = _Recurrent.apply  # torch does not type it
            # the parts of the state are returned one by one: autograd handles tensors only
            spikes, *parts = scan(current, weight, state, self, local)
            return spikes, RecurrentState(*parts)
        steps = self.run(current, weight, state)
        return steps.spikes, steps.state

    @torch.no_grad()
    def run(self, current: Tensor, weight: Tensor | None = None, state: RecurrentState | None = None) -> Steps:
        """Run over `current` without autograd; the result is all that the gradient needs."""
        p, beta, delayed = self.constants, self.beta.to(current.dtype), self.constants.reset_order == "delayed"
        alpha, rho, height = 1 - p.leak, 1 - p.dt / p.tau_adaptation, p.v_threshold - p.v_rest
        adapts, charged = bool(p.threshold_adaptation), p.leak * p.v_rest
        v, b, z, quiet = state or self.rest(current)
        back = None if weight is None else p.gain * weight.t()  # [from, to]
        spikes, u, h = (torch.empty_like(current) for _ in range(3))  # filled in place, step by step
        # each slice is a view [B, N] of the result
        for now, z_now, u_now, h_now in zip(p.gain * current + charged, spikes, u, h, strict=True):
            # h = alpha V + gain I
            torch.add(now if back is None else torch.addmm(now, z, back), v, alpha=alpha, out=h_now)
            if delayed:
                v, b = _reset(h_now, z, p, height), (rho * b + z if adapts else b)
            torch.sub(v if delayed else h_now, p.v_threshold, out=u_now)  # u = distance to the threshold
            if adapts:
                u_now.addcmul_(beta, b, value=-1)
            if self.refractory:
                u_now.masked_fill_(quiet > 0, -torch.inf)  # a refractory neuron neither fires nor has a surrogate
            z = torch.ge(u_now, 0, out=z_now)
            if self.refractory:
                # count down; a spike sets the counter
                quiet = (quiet - 1).clamp_min_(0).add_(z, alpha=self.refractory)
            if not delayed:
                v, b = _reset(h_now, z, p, height), (rho * b + z if adapts else b)
        return Steps(spikes, u, h, RecurrentState(v, b, z.clone(), quiet))

    def psi(self, u: Tensor) -> Tensor:
        """Return the dampened surrogate derivative at `u`; it is 0 for a refractory neuron (u = -inf)."""
        return self.dampening * get_surrogate(self.constants.surrogate).derivative(u, self.constants.surrogate_slope)


class _Recurrent(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        weight: Tensor | None,
        state: RecurrentState | None,
        neurons: RecurrentLIF,
        local: bool,
    ) -> tuple[Tensor, ...]:
        state = state or neurons.rest(current)
        steps = neurons.run(current, weight, state)
        ctx.neurons, ctx.local = neurons, local
        hard = neurons.constants.reset == "hard" and not neurons.constants.detach_reset
        # an attached hard reset alone needs h: r = V_rest - h
        ctx.save_for_backward(weight, state.spikes, steps.spikes, steps.u, steps.h if hard else None)
        ctx.mark_non_differentiable(*steps.state)
        return steps.spikes, *steps.state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        weight, first, spikes, u, h = ctx.saved_tensors
        neurons, before = ctx.neurons, torch.cat([first[None], spikes[:-1]])  # spikes of the previous step
        through = None if weight is None or ctx.local else weight  # e-prop has no path through W
        grad_current = adjoint(neurons, grad, neurons.psi(u), spikes, before, h, through)
        grad_weight = None
        if weight is not None and ctx.needs_input_grad[1]:
            grad_weight = grad_current.flatten(0, 1).t() @ before.flatten(0, 1)  # [N, T B] @ [T B, N]
        return grad_current, grad_weight, None, None, None


def adjoint(
    neurons: RecurrentLIF, grad: Tensor, psi: Tensor, spikes: Tensor, before: Tensor, h: Tensor | None, w: Tensor | None
) -> Tensor:
    """Return dL/d(current) [T, B, N] from the derivative `grad` by the spikes.

    `before` are the spikes of the previous step. `h` is needed for an attached hard reset only. Without `w` there is no
    path from neuron to neuron.
    """
    p, beta, delayed = neurons.constants, neurons.beta.to(grad.dtype), neurons.constants.reset_order == "delayed"
    alpha, rho, adapts = 1 - p.leak, 1 - p.dt / p.tau_adaptation, bool(p.threshold_adaptation)
    # m of every step; None if the reset keeps h
    kept = (1 - (before if delayed else spikes)).unbind() if p.reset == "hard" else None
    # r of every step: the change of V by a spike, through the reset
    reset: Sequence[Tensor | float] | None = None
    if not p.detach_reset and p.reset == "soft":
        reset = [p.v_rest - p.v_threshold] * len(grad)
    if not p.detach_reset and p.reset == "hard":
        assert h is not None
        reset = (p.v_rest - h).unbind()
    # the gain is applied to W once, instead of to dI in every step
    result, w = torch.empty_like(grad), None if w is None else p.gain * w
    dv = dh = db = torch.zeros_like(grad[0])  # derivatives by V, h and b of the step after t
    for t in range(len(grad) - 1, -1, -1):
        dz = grad[t] if w is None else torch.addmm(grad[t], dh, w)  # plus W^T dI of t + 1
        if adapts:
            dz = dz + db
        if delayed:
            if reset is not None and t + 1 < len(grad):
                dz = dz + reset[t + 1] * dv  # the reset by z_t happens at t + 1
            g = psi[t] * dz
            dv = torch.add(g, dh, alpha=alpha)
            dh = dv if kept is None else kept[t] * dv
        else:
            dv = alpha * dh
            g = psi[t] * (dz if reset is None else dz + reset[t] * dv)
            dh = g + (dv if kept is None else kept[t] * dv)
        if adapts:
            db = torch.addcmul(rho * db, beta, g, value=-1)  # b lowers u by beta b
        torch.mul(dh, p.gain, out=result[t])  # dI = gain dh
    return result


def _reset(h: Tensor, z: Tensor, p: LIFParameters, height: float) -> Tensor:
    """Return the membrane after the reset of the neurons that fired (z = 1)."""
    if p.reset == "hard":
        return torch.where(z > 0, p.v_rest, h)
    return h - height * z if p.reset == "soft" else h
