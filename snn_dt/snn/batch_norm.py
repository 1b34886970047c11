"""Batch norm with a weight per row. A weight of 0 excludes a pad from the statistics.

N rows, D channels. The C++ kernels need a third of the memory passes of torch's operators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from snn_dt.snn import cpp
from snn_dt.snn.backends import backend_for


def batch_norm(
    x: Tensor, weights: Tensor, scale: Tensor, bias: Tensor, eps: float, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Compute `scale (x - mean) / sqrt(var + eps) + bias` with `mean = \sum_r w_r x_r`.

    Args:
        x: `[N, D]`.
        weights: `[N]` with sum 1. They get no gradient. 0 excludes a row from the statistics.
        scale, bias: `[D]`.
        eps: added to the variances.
        backend: as in `backends.py`.

    Returns:
        The normalised rows `[N, D]` and the mean and variance `[D]` each. The statistics carry no gradient.
    """
    plain = x.dtype in cpp.SUFFIX and x.numel() > 0 and not torch.compiler.is_compiling()
    fused = plain and backend_for(x.device.type, backend) == "cpp"
    return _BatchNorm.apply(x.contiguous(), weights.contiguous(), scale, bias, eps, fused)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, scale: Tensor, bias: Tensor, eps: float, fused: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, squares = cpp.column_sums(x, x, weights) if fused else (weights @ x, weights @ x.square())
        var = (squares - mean.square()).clamp(min=0)  # rounding can make the difference negative
        inverse_std = (var + eps).rsqrt()
        ctx.save_for_backward(x, weights, scale, mean, inverse_std)
        ctx.mark_non_differentiable(mean, var)
        ctx.fused = fused
        gain = scale * inverse_std
        return torch.addcmul(bias - mean * gain, x, gain), mean, var  # [N, D], [D], [D]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weights, scale, mean, inverse_std = ctx.saved_tensors
        grad = grad.contiguous()
        by_bias, products = cpp.column_sums(x, grad, None) if ctx.fused else (grad.sum(0), (grad * x).sum(0))
        by_scale = (products - by_bias * mean) * inverse_std
        # dL/dx = gain (grad - weight (by_bias + normalised x by_scale)) = gain grad + weight (shift + slope x).
        # The weight of a pad is 0.
        gain = scale * inverse_std
        slope = -gain * by_scale * inverse_std
        shift = -gain * by_bias - slope * mean
        if ctx.fused:
            grad_x = cpp.batch_norm_backward(x, grad, weights, gain, slope, shift)
        else:
            grad_x = torch.addcmul(shift, x, slope).mul_(weights.unsqueeze(1)).addcmul_(grad, gain)
        return grad_x, None, by_scale, by_bias, None, None
