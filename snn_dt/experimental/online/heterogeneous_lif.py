"""LIF neurons, each with a decay and a threshold of its own, both learned: a scan with its gradient written out.

T steps, any [...]; `decay` and `threshold` [N] are those of the last axis; current and spikes [T, ...], membrane [...].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_dt.snn import cpp
from snn_dt.snn.backends import backend_for
from snn_dt.snn.neurons import LIF
from snn_dt.snn.parameters import LIFState
from snn_dt.snn.surrogate import fast_sigmoid


class HeterogeneousLIF(LIF):
    """N neurons that start with random constants, as in the actor of Van den Berghe et al. 2025 (arXiv 2510.24461).

    ```
    V_t = beta V_(t-1) + I_t - theta s_(t-1)        s_t = [V_t >= theta]
    ```

    beta and theta are drawn from U(0.05, 0.95) (published: U(0, 1), whose ends the sigmoid and the softplus that hold
    them in range cannot reach). The reset is soft, one step late and outside of the gradient, as in snnTorch. It is
    `LIF(reset="soft", reset_order="delayed", detach_reset=True, learnable=("tau_mem", "v_threshold"))`, same spikes and
    same gradients, about eight times as fast.
    """

    def __init__(self, neurons: int, surrogate_slope: float, generator: torch.Generator | None = None) -> None:
        super().__init__(
            reset="soft",
            reset_order="delayed",
            detach_reset=True,
            surrogate_slope=surrogate_slope,
            learnable=("tau_mem", "v_threshold"),
            neurons=neurons,
        )
        decay, threshold = 0.05 + 0.9 * torch.rand(2, neurons, generator=generator)
        with torch.no_grad():
            self.raw_leak.copy_(torch.logit(1.0 - decay))
            self.raw_threshold.copy_(threshold.expm1().log())

    def integrate(self, current: Tensor, state: LIFState | None = None) -> tuple[Tensor, LIFState]:
        """Integrate `current` [T, ..., N] from `state`; gradients do not reach a state that is handed in or out."""
        v_mem = torch.zeros_like(current[0]) if state is None else state.v_mem
        spikes, v_mem = _Scan.apply(current, v_mem, 1.0 - self.leak, self.v_threshold, self.surrogate_slope)
        return spikes, LIFState(v_mem)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor, slope: float
    ) -> tuple[Tensor, Tensor]:
        if backend_for(current.device.type) == "cpp":
            shape = current.shape
            current, v0 = current.contiguous().view(len(current), -1, shape[-1]), v0.contiguous().view(-1, shape[-1])
            decay, threshold = decay.contiguous(), threshold.contiguous()
            membranes, spikes = (x.view(shape) for x in cpp.own_forward(current, v0, decay, threshold))
        else:
            membranes = _membranes(current, v0, decay, threshold)
            spikes = (membranes >= threshold).to(current.dtype)
        ctx.save_for_backward(membranes, v0, decay, threshold)
        ctx.slope = slope
        last = membranes[-1].clone()
        ctx.mark_non_differentiable(last)
        return spikes, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_spikes: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Carry dV back by beta: `dV_t = psi(V_t - theta) ds_t + beta dV_(t+1)`."""
        membranes, v0, decay, threshold = ctx.saved_tensors
        if backend_for(membranes.device.type) == "cpp":
            flat, grads = (x.contiguous().view(len(x), -1, x.shape[-1]) for x in (membranes, d_spikes))
            d_v, d_decay, d_threshold = cpp.own_backward(flat, v0, decay, threshold, grads, ctx.slope)
            return d_v.view(membranes.shape), None, d_decay, d_threshold, None
        through_spikes = fast_sigmoid(membranes - threshold, ctx.slope).mul_(d_spikes)
        d_v = through_spikes.clone()
        steps = d_v.unbind(0)
        for before, after in zip(reversed(steps[:-1]), reversed(steps[1:]), strict=True):
            before.addcmul_(after, decay)
        earlier = torch.cat([v0[None], membranes[:-1]])
        d_decay = (d_v * earlier).flatten(0, -2).sum(0)
        d_threshold = -(through_spikes + d_v * (earlier >= threshold)).flatten(0, -2).sum(0)
        return d_v, None, d_decay, d_threshold, None


def _membranes(current: Tensor, v0: Tensor, decay: Tensor, threshold: Tensor) -> Tensor:
    """Return V of every step; `heterogeneous_lif.cpp` is the same, fused."""
    membranes, v = torch.empty_like(current), v0
    for now, out in zip(current.unbind(0), membranes.unbind(0), strict=True):
        torch.mul(v, decay, out=out)
        out.add_(now).sub_(threshold * (v >= threshold))
        v = out
    return membranes
