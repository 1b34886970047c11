"""The leaky sum over time: the filter of traces and of read-outs without spikes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _LeakySum(torch.autograd.Function):
    """The gradient of a leaky sum is the leaky sum of the gradient, backwards in time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, decay: float) -> Tensor:
        ctx.decay = decay
        return _leaky_sum(x, decay, range(len(x)))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _leaky_sum(grad, ctx.decay, range(len(grad) - 1, -1, -1)), None


def leaky_sum(x: Tensor, decay: float) -> Tensor:
    """Return `y_t = decay y_(t-1) + x_t` from `y_0 = 0`, of `x` [T, ...]: the filter of membranes and traces."""
    result: Tensor = _LeakySum.apply(x, decay)
    return result


def _leaky_sum(x: Tensor, decay: float, steps: range) -> Tensor:
    y, last = torch.empty_like(x), None
    for t in steps:
        last = torch.add(x[t], last, alpha=decay, out=y[t]) if last is not None else y[t].copy_(x[t])
    return y
