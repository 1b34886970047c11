"""Leaky sum over time. It filters membranes, read-outs, traces and running rates.

T steps. `x` and the result are [T, ...].
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Leaky(torch.autograd.Function):
    """Leaky sum. Its gradient is the leaky sum of the incoming gradient backwards in time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float) -> Tensor:
        ctx.decay = decay
        return _sum(x, decay, range(len(x)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _sum(grad, ctx.decay, range(len(grad) - 1, -1, -1)), None


def leaky_sum(x: Tensor, decay: float) -> Tensor:
    """Return `y_t = decay y_(t-1) + x_t` [T, ...] with y = 0 before the first step."""
    result: Tensor = _Leaky.apply(x, decay)
    return result


def _sum(x: Tensor, decay: float, steps: range) -> Tensor:
    y, last = torch.empty_like(x), None
    for t in steps:  # written in place: one buffer [T, ...] instead of T tensors and a stack
        last = torch.add(x[t], last, alpha=decay, out=y[t]) if last is not None else y[t].copy_(x[t])
    return y
