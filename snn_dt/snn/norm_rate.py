"""A layer norm and the neurons behind it in one pass: half the memory traffic of one after the other.

Shapes: `x` and the rate [..., D]; weight and bias of the norm [D].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from snn_dt.snn import cpp
from snn_dt.snn.backends import backend_for
from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.scan import lif_rate


class _NormRate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, sim_steps: int, p: LIFParameters
    ) -> Tensor:
        rate, by_current, stats = cpp.norm_rate_forward(x, weight, bias, eps, sim_steps, p, True)
        ctx.save_for_backward(x, weight, by_current, stats)
        return rate

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return *cpp.norm_rate_backward(*ctx.saved_tensors, grad.contiguous()), None, None, None


def norm_rate(x: Tensor, norm: nn.LayerNorm, sim_steps: int, params: LIFParameters, backend: str = "auto") -> Tensor:
    """Return `lif_rate(norm(x))`: the mean of `sim_steps` spikes under the constant current `LayerNorm(x)`.

    One kernel on a CPU with a C++ compiler, two steps elsewhere. They round the norm differently (a float32 current by
    some 1e-7), so that a membrane within that of the threshold may fire in one and not in the other.
    """
    weight, bias = norm.weight, norm.bias
    plain = x.dtype in cpp.SUFFIX and weight.dtype == x.dtype and x.numel() > 0
    if not plain or torch.compiler.is_compiling() or backend_for(x.device.type, backend) != "cpp":
        return lif_rate(F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps), sim_steps, params, backend)
    x = x.contiguous()
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad or bias.requires_grad):
        return _NormRate.apply(x, weight, bias, norm.eps, sim_steps, params)
    return cpp.norm_rate_forward(x, weight, bias, norm.eps, sim_steps, params, False)[0]
