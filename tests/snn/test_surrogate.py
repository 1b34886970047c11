"""Surrogates: formulas, antiderivatives, the spike's forward and backward."""

import math

import pytest
import torch

from snn_dt.snn import SURROGATES, get_surrogate, smooth_spike, spike

U = [-0.7, -0.1, -0.02, 0.0, 0.03, 0.1, 0.9]
FORMULAS = {
    "fast_sigmoid": lambda u, k: 1 / (1 + abs(k * u)) ** 2,
    "sigmoid": lambda u, k: 1 / math.cosh(k * u / 2) ** 2,
    "triangle": lambda u, k: max(0.0, 1 - abs(k * u)),
    "arctan": lambda u, k: 1 / (1 + (k * u) ** 2),
    "rectangular": lambda u, k: float(abs(k * u) <= 1),
}


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("slope", [1.0, 4.0, 10.0, 100.0])
def test_derivative_is_the_published_formula_with_peak_one(name, slope):
    found = get_surrogate(name).derivative(torch.tensor(U, dtype=torch.float64), slope)
    expected = torch.tensor([FORMULAS[name](u, slope) for u in U], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-15)
    assert found[U.index(0.0)] == 1


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("slope", [1.0, 10.0])
def test_smooth_spike_is_one_half_at_zero_and_has_the_surrogate_as_gradient(name, slope):
    u = torch.tensor(U, dtype=torch.float64, requires_grad=True)
    y = smooth_spike(u, slope, name)
    assert y[U.index(0.0)] == 0.5
    (grad,) = torch.autograd.grad(y.sum(), u)
    torch.testing.assert_close(grad, get_surrogate(name).derivative(u.detach(), slope), rtol=1e-12, atol=1e-14)


def test_a_tie_fires_and_so_does_negative_zero():
    assert spike(torch.tensor([-1e-30, -0.0, 0.0, 1e-30])).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("name", SURROGATES)
def test_spike_is_heaviside_forward_and_surrogate_backward(name):
    u = torch.tensor(U, requires_grad=True)
    s = spike(u, 5.0, name)
    assert s.tolist() == [float(x >= 0) for x in U]
    weight = torch.arange(1.0, len(U) + 1)
    (grad,) = torch.autograd.grad(s, u, weight)
    torch.testing.assert_close(grad, weight * get_surrogate(name).derivative(u.detach(), 5.0))


def test_unknown_surrogate_names_the_nearest_one():
    with pytest.raises(ValueError, match="did you mean 'arctan'"):
        get_surrogate("atan")
