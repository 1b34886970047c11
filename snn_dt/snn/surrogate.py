r"""Surrogate derivatives of the Heaviside spike with peak 1 for every slope.

A spike is `s = [u >= 0]` with `u = h - V_th`. The backward pass replaces its derivative by `psi_k(u)`. Every `psi_k`
peaks at 1. The slope `k` narrows the support without scaling the gradient of a neuron at its threshold.

| name         | psi_k(u)               | antiderivative S_k(u), S_k(0) = 1/2            |
|--------------|------------------------|------------------------------------------------|
| fast_sigmoid | 1 / (1 + \|k u\|)^2    | 1/2 + u / (1 + \|k u\|)                        |
| sigmoid      | 4 y (1 - y)            | 1/2 + (4/k) (y - 1/2),  y = 1 / (1 + e^(-k u)) |
| triangle     | max(0, 1 - \|k u\|)    | 1/2 + w - k w \|w\| / 2,  w = clip(u, +-1/k)   |
| arctan       | 1 / (1 + (k u)^2)      | 1/2 + arctan(k u) / k                          |
| rectangular  | [\|k u\| <= 1]         | 1/2 + clip(u, +-1/k)                           |

Shapes: `u` has any shape. `slope` is a positive float or a tensor with one element. Libraries that normalise to unit
area instead (SpikingJelly's SoftSign and ATan) differ by a factor of the order of `k`.

Sources: fast sigmoid, Zenke & Ganguli 2018, divided by its peak as in Van den Berghe et al. 2025 (arXiv 2510.24461);
triangle, Bellec et al. 2020; arctan, Fang et al. 2021; rectangular, Wu et al. 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from snn_dt.errors import did_you_mean

Slope = float | Tensor


def fast_sigmoid(u: Tensor, slope: Slope) -> Tensor:
    """Return `1 / (1 + |k u|)^2`."""
    return (1.0 + (slope * u).abs()).square().reciprocal()


def fast_sigmoid_integral(u: Tensor, slope: Slope) -> Tensor:
    """Return `1/2 + u / (1 + |k u|)`."""
    return 0.5 + u / (1.0 + (slope * u).abs())


def sigmoid(u: Tensor, slope: Slope) -> Tensor:
    """Return `4 y (1 - y)` with `y = 1 / (1 + e^(-k u))`."""
    y = torch.sigmoid(slope * u)
    return 4.0 * y * (1.0 - y)


def sigmoid_integral(u: Tensor, slope: Slope) -> Tensor:
    """Return `1/2 + (4 / k) (y - 1/2)` with `y = 1 / (1 + e^(-k u))`."""
    return 0.5 + (4.0 / slope) * (torch.sigmoid(slope * u) - 0.5)


def triangle(u: Tensor, slope: Slope) -> Tensor:
    """Return `max(0, 1 - |k u|)`."""
    return (1.0 - (slope * u).abs()).clamp_min(0.0)


def triangle_integral(u: Tensor, slope: Slope) -> Tensor:
    """Return `1/2 + w - k w |w| / 2` with `w = clip(u, -1/k, 1/k)`."""
    w = _clip(u, slope)
    return 0.5 + w - 0.5 * slope * w * w.abs()


def arctan(u: Tensor, slope: Slope) -> Tensor:
    """Return `1 / (1 + (k u)^2)`."""
    return (1.0 + (slope * u).square()).reciprocal()


def arctan_integral(u: Tensor, slope: Slope) -> Tensor:
    """Return `1/2 + arctan(k u) / k`."""
    return 0.5 + torch.atan(slope * u) / slope


def rectangular(u: Tensor, slope: Slope) -> Tensor:
    """Return 1 where `|k u| <= 1` and 0 elsewhere.

    The edge counts, because integer currents of DSFormer (k = 2) lie on it.
    """
    return ((slope * u).abs() <= 1.0).to(u.dtype)


def rectangular_integral(u: Tensor, slope: Slope) -> Tensor:
    """Return `1/2 + clip(u, -1/k, 1/k)`."""
    return 0.5 + _clip(u, slope)


def _clip(u: Tensor, slope: Slope) -> Tensor:
    """Return `u` clamped to [-1/k, 1/k]."""
    edge: Any = 1.0 / slope  # clamp takes two numbers or two tensors, and is typed as either
    return u.clamp(-edge, edge)


class Surrogate(NamedTuple):
    """Derivative `psi(u, slope)` and its antiderivative, the smooth spike `S(u, slope)`."""

    derivative: Callable[[Tensor, Slope], Tensor]
    antiderivative: Callable[[Tensor, Slope], Tensor]


SURROGATES: dict[str, Surrogate] = {
    "fast_sigmoid": Surrogate(fast_sigmoid, fast_sigmoid_integral),
    "sigmoid": Surrogate(sigmoid, sigmoid_integral),
    "triangle": Surrogate(triangle, triangle_integral),
    "arctan": Surrogate(arctan, arctan_integral),
    "rectangular": Surrogate(rectangular, rectangular_integral),
}


def get_surrogate(name: str) -> Surrogate:
    """Return the surrogate `name`.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in SURROGATES:
        raise ValueError(
            f"surrogate: expected one of {', '.join(SURROGATES)}; found {name!r}{did_you_mean(name, SURROGATES)}"
        )
    return SURROGATES[name]


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, slope: Slope, derivative: Callable[[Tensor, Slope], Tensor]) -> Tensor:
        ctx.save_for_backward(u)
        ctx.slope, ctx.derivative = slope, derivative
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (u,) = ctx.saved_tensors
        return grad * ctx.derivative(u, ctx.slope), None, None


def spike(u: Tensor, slope: Slope = 10.0, surrogate: str = "fast_sigmoid") -> Tensor:
    """Return `[u >= 0]` in the dtype of `u`. A tie (`u == 0`) fires. Its gradient is `dL/du = psi_slope(u) dL/ds`."""
    return _Spike.apply(u, slope, get_surrogate(surrogate).derivative)


def smooth_spike(u: Tensor, slope: Slope = 10.0, surrogate: str = "fast_sigmoid") -> Tensor:
    """Return the smooth spike `S_slope(u)` for gradient checks. Its true gradient is the surrogate."""
    return get_surrogate(surrogate).antiderivative(u, slope)
