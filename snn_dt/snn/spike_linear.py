"""Linear layer with sparse inputs: zeros are skipped in the forward pass and in the gradient of the weight.

N rows, I inputs, O outputs. The work of the kernels in `spikes.cpp` is proportional to the number of nonzero inputs.
The gradient of the input is a dense product, because surrogate gradients are rarely zero.

The kernels need float32 on a CPU. Other inputs use torch's product. So do inputs with few rows, because packing the
weight then costs more than it saves. Torch is also faster if half of the inputs or more are nonzero. The gradient of
the weight must first list the tokens of each input, so its limit is a quarter.
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
    """Return `x W^T + b` `[..., O]` for spikes or rates `x [..., I]`.

    `weight` is `[O, I]` and `bias` is `[O]`. See `backends.py` for `backend`. The result equals `F.linear` to
    rounding.
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
        rows = grad.flatten(0, -2)  # [..., O] -> [N, O]
        return grad_x, rows.t() @ x.flatten(0, -2), rows.sum(0), None
