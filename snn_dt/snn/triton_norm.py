# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Kernel functions are written in the language of Triton, which has no types.
"""Triton kernel of a layer norm and the neurons behind it. One program normalises a token and counts its spikes.

Shapes: `x` and the rate [..., D]; weight and bias [D]. Dtypes: float32 and float64.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.triton_kernels import launch, rate_steps


@triton.jit
def _norm_rate(
    x, weight, bias, rate, grad_current, stats, c, rows, eps, T, width, SURROGATE: tl.constexpr, BLOCK: tl.constexpr
):
    row, lane = tl.program_id(0), tl.arange(0, BLOCK)
    real = lane < width
    at = row.to(tl.int64) * width + lane
    value = tl.load(x + at, mask=real, other=0.0)
    mean = tl.sum(value, 0) / width
    # `value - mean` is not 0 in lanes beyond the width, which must not add to the variance.
    centred = tl.where(real, value - mean, 0.0)
    by_std = 1 / tl.sqrt(tl.sum(centred * centred, 0) / width + eps)
    current = centred * by_std * tl.load(weight + lane, mask=real) + tl.load(bias + lane, mask=real)
    spikes, derivative = rate_steps(tl.load(c + 1) * current, c, T, grad_current is not None, SURROGATE)
    tl.store(rate + at, spikes, mask=real)
    if grad_current is not None:
        tl.store(grad_current + at, derivative, mask=real)
        tl.store(stats + row, mean)
        tl.store(stats + rows + row, by_std)


def norm_rate_forward(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, sim_steps: int, p: LIFParameters, derivative: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the rate for the current `LayerNorm(x)` and the two tensors that `norm_rate_backward` needs."""
    width = x.shape[-1]
    rows = x.numel() // width
    rate, grad_current, stats = torch.empty_like(x), None, None
    if derivative:
        grad_current, stats = torch.empty_like(x), x.new_empty(2, *x.shape[:-1], 1)  # mean and 1 / std [..., 1]
    block = triton.next_power_of_2(width)
    tensors = x, weight, bias, rate, grad_current, stats, p.on(x.device, x.dtype)
    options = {"SURROGATE": p.coefficients.surrogate, "BLOCK": block, "num_warps": min(max(block // 256, 1), 8)}
    launch(_norm_rate, rows, *tensors, rows, eps, sim_steps, width, **options)
    return rate, grad_current, stats


def norm_rate_backward(
    x: Tensor, weight: Tensor, grad_current: Tensor, stats: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `x`, weight and bias."""
    mean, by_std = stats
    wanted = [True, True, True]
    return torch.ops.aten.native_layer_norm_backward(
        grad * grad_current, x, weight.shape, mean, by_std, weight, weight, wanted
    )
