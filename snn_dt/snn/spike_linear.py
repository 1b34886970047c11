"""A linear layer fed by spikes: what is zero is neither added nor does it move a weight.

N rows, I inputs, O outputs. The kernels of `spikes.cpp` do the work of the forward pass and of the weight's gradient in
proportion to the number of inputs that fired; the gradient of the input, which surrogates fill up, stays a dense
product. They run float32 on a CPU; anything else takes torch's product, and so do few rows, for which packing the
weight costs more than it saves, and rows of which half or more are not zero. The weight's gradient has to list which
tokens each input fed, and pays up to a quarter.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from snn_dt.snn import cpp
from snn_dt.snn.backends import backend_for

MIN_ROWS = 512
MAX_DENSITY = 0.5
MAX_GRADIENT_DENSITY = 0.25
SAMPLE_ROWS = 64


def spike_linear(x: Tensor, weight: Tensor, bias: Tensor, backend: str = "auto") -> Tensor:
    """Return `x W^T + b` for spikes or rates `x [..., I]`, `weight [O, I]`, `bias [O]`; `backend` as in `backends.py`.

    Equal to `F.linear` to rounding.
    """
    rows = x.numel() // max(x.shape[-1], 1)
    plain = x.dtype == weight.dtype == torch.float32 and rows >= MIN_ROWS and not torch.compiler.is_compiling()
    if not plain or backend_for(x.device.type, backend) != "cpp" or (density := _density(x, rows)) >= MAX_DENSITY:
        return F.linear(x, weight, bias)
    return _SpikeLinear.apply(x.contiguous(), weight, bias, density < MAX_GRADIENT_DENSITY)


def _density(x: Tensor, rows: int) -> float:
    """Return the share of inputs that are not zero, in some of the rows."""
    sample = x.detach().reshape(rows, -1)[:: max(rows // SAMPLE_ROWS, 1)]
    return float(torch.count_nonzero(sample)) / sample.numel()


class _SpikeLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, sparse_gradient: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.sparse_gradient = sparse_gradient
        return cpp.spike_linear(x, cpp.pack_weight(weight), bias, len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad_x = grad @ weight if ctx.needs_input_grad[0] else None
        if ctx.sparse_gradient:
            return grad_x, *cpp.spike_linear_backward(x, grad.contiguous()), None
        rows = grad.flatten(0, -2)
        return grad_x, rows.t() @ x.flatten(0, -2), rows.sum(0), None
