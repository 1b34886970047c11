"""Run LIF neurons over time on the fastest available backend; see `backends.py`.

Shapes: `current` and spikes [T, ...]; `v0` and the last membrane [...]. In `lif_rate` current and rate are [...].
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_dt.snn import compiled
from snn_dt.snn.backends import backend_for, kernels
from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.reference import rate_reference, scan_reference

HALF_TYPES = (torch.float16, torch.bfloat16)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v0: Tensor | None, p: LIFParameters, fused: ModuleType
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)  # an unused output then has gradient None, which the kernel skips
        ctx.save_for_backward(current, v0)
        ctx.p, ctx.fused = p, fused
        return fused.scan_forward(current, v0, p)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_spikes: Tensor | None, grad_v: Tensor | None
    ) -> tuple[Tensor, Tensor | None, None, None]:
        current, v0 = ctx.saved_tensors
        grad_current, grad_v0 = ctx.fused.scan_backward(current, v0, _dense(grad_spikes), _dense(grad_v), ctx.p)
        return grad_current, None if v0 is None else grad_v0, None, None


class _Rate(torch.autograd.Function):
    """Rate with an elementwise derivative.

    The rate of a neuron depends only on its own current. Forward computes this derivative and saves nothing else.
    """

    @staticmethod
    def forward(ctx: Any, current: Tensor, sim_steps: int, p: LIFParameters, fused: ModuleType) -> Tensor:
        rate, grad_current = fused.rate_forward(current, sim_steps, p, True)
        ctx.save_for_backward(grad_current)
        return rate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad * ctx.saved_tensors[0], None, None, None


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _needs_grad(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def lif_scan(current: Tensor, v0: Tensor | None, params: LIFParameters, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """Run a layer of neurons over `current` [T, ...] from the membrane `v0` [...].

    `v0=None` starts at rest. `reference.lif_step` has the equations. A `current` of half precision is computed in
    float32 and only the spikes are cast back.

    Returns:
        Spikes [T, ...] and the membrane after the last reset [...].

    Raises:
        ValueError: `current` is not a float tensor with a time axis or `v0` has another shape than one step.
    """
    if current.dim() == 0 or not current.is_floating_point():
        raise ValueError(f"current: expected floats [T, ...]; found {current.dtype} {list(current.shape)}")
    if v0 is not None and v0.shape != current.shape[1:]:
        raise ValueError(f"v0: expected the shape {list(current.shape[1:])} of one step; found {list(v0.shape)}")
    if current.dtype in HALF_TYPES:
        spikes, v_mem = lif_scan(current.float(), v0, params, backend)
        return spikes.to(current.dtype), v_mem
    if v0 is not None:
        v0 = v0.to(current.dtype)
    name = backend_for(current.device.type, backend)
    if name == "reference":
        return scan_reference(current, current.new_full(current.shape[1:], params.v_rest) if v0 is None else v0, params)
    if torch.compiler.is_compiling():  # a compiled graph cannot contain ctypes calls
        return compiled.scan(current, v0, params, name)
    current, v0 = current.contiguous(), _dense(v0)
    # Without a gradient the call skips autograd's overhead.
    if _needs_grad(current, v0):
        return _Scan.apply(current, v0, params, kernels(name))
    return kernels(name).scan_forward(current, v0, params)


def lif_rate(current: Tensor, sim_steps: int, params: LIFParameters, backend: str = "auto") -> Tensor:
    """Return the mean spike in [0, 1] over `sim_steps` steps of a constant `current` [...] from rest.

    The result has the shape and dtype of `current`. Half precision is computed in float32.

    Raises:
        ValueError: `current` is not a float tensor or `sim_steps < 1`.
    """
    if sim_steps < 1 or not current.is_floating_point():
        raise ValueError(f"expected a float current and sim_steps >= 1; found {current.dtype} and {sim_steps!r}")
    if current.dtype in HALF_TYPES:
        return lif_rate(current.float(), sim_steps, params, backend).to(current.dtype)
    name = backend_for(current.device.type, backend)
    if name == "reference":
        return rate_reference(current, sim_steps, params)
    if torch.compiler.is_compiling():
        return compiled.rate(current, sim_steps, params, name)
    current = current.contiguous()
    if _needs_grad(current):
        return _Rate.apply(current, sim_steps, params, kernels(name))
    return kernels(name).rate_forward(current, sim_steps, params, False)[0]
