"""Rates and their losses: values worked by hand, gradients against the formulas and finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F

from snn_dt.experimental.rsnn.rates import margin_hinge, margins, mean_rate, rate_cross_entropy, running_rate


def rates_of(seed=0, samples=6, classes=4):
    return torch.rand(samples, classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_mean_looks_at_the_window_alone():
    spikes = torch.tensor([[1.0], [0.0], [1.0], [1.0], [0.0]])
    assert mean_rate(spikes).item() == pytest.approx(0.6)
    assert mean_rate(spikes, 2).item() == 0.5
    for window in (0, 6):
        with pytest.raises(ValueError, match="window: expected 1 to 5"):
            mean_rate(spikes, window)


def test_the_running_rate_by_hand_and_of_a_neuron_that_always_fires():
    # m = .5, .25, .625 over 1 - (1/2)^t = .5, .75, .875
    found = running_rate(torch.tensor([[1.0], [0.0], [1.0]], dtype=torch.float64), 0.5)
    assert found.flatten().tolist() == pytest.approx([1.0, 1 / 3, 5 / 7], abs=1e-15)
    always = running_rate(torch.ones(60, 2, dtype=torch.float64), 0.05)
    torch.testing.assert_close(always, torch.ones(60, 2, dtype=torch.float64), rtol=0, atol=1e-13)
    with pytest.raises(ValueError, match="alpha"):
        running_rate(torch.ones(3, 1), 0.0)


def test_the_last_running_rate_weighs_a_spike_by_its_age():
    spikes = torch.zeros(9, 1, dtype=torch.float64, requires_grad=True)
    grad = torch.autograd.grad(running_rate(spikes, 0.2)[-1].sum(), spikes)[0].flatten()
    expected = 0.2 * 0.8 ** torch.arange(8, -1, -1, dtype=torch.float64) / (1 - 0.8**9)
    torch.testing.assert_close(grad, expected, rtol=0, atol=1e-14)


def test_two_rates_of_one_and_zero_at_temperature_one_are_certain_to_point_seven_three():
    rates = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    loss = rate_cross_entropy(rates, torch.tensor([0]), temperature=1.0)
    assert math.exp(-loss) == pytest.approx(0.7310585786300049, abs=1e-15)
    assert math.exp(-rate_cross_entropy(rates, torch.tensor([0]))) > 0.9999


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_gradient_is_p_minus_y_over_the_temperature(temperature):
    rates, targets = rates_of().requires_grad_(), torch.tensor([0, 3, 1, 1, 2, 0])
    found = torch.autograd.grad(rate_cross_entropy(rates, targets, temperature), rates)[0]
    p = torch.softmax(rates.detach() / temperature, -1)
    expected = (p - F.one_hot(targets, 4)) / temperature / len(rates)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


def test_margin_and_hinge_by_hand():
    rates = torch.tensor([[0.5, 0.2, 0.4], [0.5, 0.48, 0.1], [0.1, 0.6, 0.6]], dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 0, 0])
    assert margins(rates, targets).tolist() == pytest.approx([0.1, 0.02, -0.5])
    loss = margin_hinge(rates, targets)
    assert loss.item() == pytest.approx((0.0 + 0.03 + 0.55) / 3)
    grad = 3 * torch.autograd.grad(loss, rates)[0]
    expected = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, 0.5, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(grad, expected, rtol=0, atol=1e-14)


def test_both_losses_pass_finite_differences_through_the_mean_of_a_window():
    spikes = torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([2, 0, 3])
    for loss in (rate_cross_entropy, margin_hinge):
        assert torch.autograd.gradcheck(lambda s, loss=loss: loss(mean_rate(s, 3), targets), spikes)
