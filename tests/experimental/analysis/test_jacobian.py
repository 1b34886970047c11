"""Closed-form Jacobians of every neuron: against autograd, the published formulas, and run after run of a layer."""

import itertools

import pytest
import torch

from snn_dt.experimental.analysis.jacobian import linearise, parts, recurrent_jacobian
from snn_dt.snn import SURROGATES, LIFParameters, LIFState, variants
from tests.snn.test_variants import ADAPTATIONS, DETACH, OPTIONS, ORDERS, RESETS, parameters, randn


def derivatives(current, state, p):
    """What autograd says of one step of `variants.step`, neuron by neuron."""

    def step(v, b, w, x):
        s, end = variants.step(x, LIFState(v, b, w), p, p.leak, p.v_threshold)
        return *end, s

    rows = torch.autograd.functional.jacobian(step, (*state, current))
    table = torch.stack([torch.stack([torch.diagonal(x) for x in row], -1) for row in rows], -2)  # [N, 4, 4]
    used = parts(p)
    return table[:, used][:, :, used], table[:, used, 3], table[:, 3, used], table[:, 3, 3]


def points(p):
    """Currents and states on both sides of the threshold, some of them on it to 1e-3."""
    current, state = randn(60), LIFState(randn(60, seed=1), randn(60, seed=2).abs() / 2, randn(60, seed=3) / 2)
    near = p.v_threshold + p.threshold_adaptation * state.spike_trace[:20] + 1e-3 * randn(20, seed=4).sign()
    if p.reset_order == "delayed":
        return current, state._replace(v_mem=torch.cat([near, state.v_mem[20:]]))
    charged = state.v_mem + p.leak * (p.v_rest - state.v_mem) - state.adaptation
    return torch.cat([(near - charged[:20]) / p.gain, current[20:]]), state


@pytest.mark.parametrize(("order", "reset", "detach", "adaptation"), OPTIONS)
def test_the_jacobian_is_that_of_autograd_for_every_option(order, reset, detach, adaptation):
    p = parameters(order, reset, detach, adaptation)
    current, state = points(p)
    found, expected = linearise(current, state, p, p.leak, p.v_threshold), derivatives(current, state, p)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)
    spikes = variants.step(current, state, p, p.leak, p.v_threshold)[0]
    assert 0.05 < spikes.mean() < 0.9


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_jacobian_is_that_of_autograd_for_every_surrogate(surrogate):
    p = parameters("charge_fire_reset", "soft", False, "both", surrogate=surrogate, surrogate_slope=3.0)
    current, state = points(p)
    for a, b in zip(linearise(current, state, p, p.leak, p.v_threshold), derivatives(current, state, p), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_a_neuron_without_spikes_forgets_at_the_rate_of_its_leak_exactly():
    p = LIFParameters(tau_mem=8.0, reset="none")
    silent = LIFState(*torch.zeros(3, 1, dtype=torch.float64))
    p_far = LIFParameters(tau_mem=8.0, surrogate="triangle")  # its derivative is 0 further than 1/k from the threshold
    for constants in (p, p_far):
        step = linearise(torch.zeros(1, dtype=torch.float64), silent, constants, constants.leak, 1.0)
        assert step.state[0, 0, 0].item() == 1 - 1 / 8


@pytest.mark.parametrize(("reset", "detach"), list(itertools.product(RESETS, DETACH)))
@pytest.mark.parametrize("order", ORDERS)
def test_a_recurrent_layer_has_the_published_jacobian(order, reset, detach):
    # delayed, soft: alpha I + (W - V_r I) diag(psi); charge, fire, reset: the same map, between the h of two steps
    p, n = parameters(order, reset, detach, "none", surrogate_slope=3.0), 12
    rest = torch.zeros(n).double()
    current, state, weight = randn(n), LIFState(2 * randn(n, seed=1), rest, rest), randn(n, n, seed=2)
    h = state.v_mem + p.leak * (p.v_rest - state.v_mem) + p.gain * current
    u = (state.v_mem if order == "delayed" else h) - p.v_threshold
    psi, fired = 1 / (1 + 3 * u.abs()) ** 2, (u >= 0).double()
    m = 1 - fired if reset == "hard" else rest + 1
    r = {"hard": p.v_rest - h, "soft": rest - (p.v_threshold - p.v_rest), "none": rest}[reset] * (not detach)
    step = linearise(current, state, p, p.leak, p.v_threshold)
    if order == "delayed":
        expected = ((1 - p.leak) * m + r * psi).diag() + p.gain * m[:, None] * weight * psi
        found = (
            step.state[:, 0, 0].diag() + step.grad_current[:, :1] * weight * psi
        )  # the spike is a function of V alone
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    else:
        expected = (1 - p.leak) * (m + r * psi).diag() + p.gain * weight * psi
        found, known = (torch.linalg.eigvals(x).abs().sort()[0] for x in (recurrent_jacobian(step, weight), expected))
        torch.testing.assert_close(found[-n:], known)
        assert found[:-n].max() < 1e-6
    assert 0 < fired.mean() < 1


@pytest.mark.parametrize(("order", "reset", "adaptation"), list(itertools.product(ORDERS, RESETS, ADAPTATIONS)))
def test_products_of_jacobians_are_the_gradient_through_time_of_a_recurrent_layer(order, reset, adaptation):
    p, n, steps = parameters(order, reset, False, adaptation), 5, 6
    weight, inputs = randn(n, n, seed=5) / 2, randn(steps, n, seed=6)

    def run(v, b, w, s):
        state, jacobians = LIFState(v, b, w), []
        for x in inputs:
            total = x + weight @ s
            jacobians.append(recurrent_jacobian(linearise(total, state, p, p.leak, p.v_threshold), weight))
            s, state = variants.step(total, state, p, p.leak, p.v_threshold)
        return torch.cat([*state, s]), jacobians

    start = [randn(n, seed=i) / 2 for i in range(3)]
    start.append(variants.step(torch.zeros(n).double(), LIFState(*start), p, p.leak, p.v_threshold)[0])
    whole = torch.autograd.functional.jacobian(lambda *parts: run(*parts)[0], tuple(start))
    product = torch.eye((len(parts(p)) + 1) * n, dtype=torch.float64)
    for jacobian in run(*start)[1]:
        product = jacobian @ product
    used = torch.cat([torch.arange(n) + n * part for part in (*parts(p), 3)])
    torch.testing.assert_close(product, torch.cat(whole, -1)[used][:, used], rtol=1e-11, atol=1e-12)
