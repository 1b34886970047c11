"""Compute a layer norm and the neurons behind it in one pass with half the memory traffic of two passes.

Shapes: `x` and the rate [..., D]; weight and bias of the norm [D].
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from snn_dt.snn import cpp
from snn_dt.snn.backends import backend_for, norm_kernels
from snn_dt.snn.goal_norm import GoalNorm
from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.scan import lif_rate


class _NormRate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        sim_steps: int,
        p: LIFParameters,
        fused: ModuleType,
    ) -> Tensor:
        rate, grad_current, stats = fused.norm_rate_forward(x, weight, bias, eps, sim_steps, p, True)
        # `grad_current` is the derivative of the rate by the normalised current.
        ctx.save_for_backward(x, weight, grad_current, stats)
        ctx.fused = fused
        return rate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *ctx.fused.norm_rate_backward(*ctx.saved_tensors, grad.contiguous()), None, None, None, None


def norm_rate(x: Tensor, norm: nn.LayerNorm, sim_steps: int, params: LIFParameters, backend: str = "auto") -> Tensor:
    """Return `lif_rate(norm(x))`: the mean of `sim_steps` spikes for the constant current `LayerNorm(x)`.

    A kernel computes both at once where one exists (`backends.py`). Kernel and separate steps round the norm
    differently (about 1e-7 of a float32 current). A membrane that close to the threshold may fire in only one of them.
    """
    weight, bias = (norm.acting_weight, norm.acting_bias) if isinstance(norm, GoalNorm) else (norm.weight, norm.bias)
    # Mixed dtypes (autocast), empty tensors and compiled graphs take the separate steps.
    plain = x.dtype in cpp.SUFFIX and weight.dtype == x.dtype and x.numel() > 0 and not torch.compiler.is_compiling()
    if not plain or (name := backend_for(x.device.type, backend)) == "reference":
        return lif_rate(F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps), sim_steps, params, backend)
    x, fused = x.contiguous(), norm_kernels(name)
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        return _NormRate.apply(x, weight, bias, norm.eps, sim_steps, params, fused)
    return fused.norm_rate_forward(x, weight, bias, norm.eps, sim_steps, params, False)[0]
