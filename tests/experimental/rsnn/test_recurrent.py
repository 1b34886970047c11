"""Recurrent neurons: the general neuron step by step is the reference, autograd the reference of their gradients."""

import itertools

import pytest
import torch

from snn_dt.experimental.rsnn.recurrent import RecurrentLIF
from snn_dt.snn import LIFParameters, variants
from tests.snn.test_variants import DETACH, ORDERS, RESETS, randn

T, B, N = 12, 3, 7
CONSTANTS = {"tau_mem": 4.0, "c_m": 1.3, "v_rest": -0.25, "v_threshold": 0.5, "tau_adaptation": 5.0}
OPTIONS = list(itertools.product(ORDERS, RESETS, DETACH, [0.0, 0.4]))


def layer(order, reset, detach, beta, adaptive=N, refractory=0):
    return RecurrentLIF(
        N, adaptive, refractory, reset_order=order, reset=reset, detach_reset=detach, threshold_adaptation=beta,
        surrogate_slope=3.0, **CONSTANTS,
    )  # fmt: skip


def step_by_step(current, weight, p: LIFParameters, local=False):
    """The same through `variants.step` and autograd."""
    state, z, spikes = variants.rest(current[0], p), torch.zeros_like(current[0]), []
    for now in current:
        z, state = variants.step(now + (z.detach() if local else z) @ weight.t(), state, p, p.leak, p.v_threshold)
        spikes.append(z)
    return torch.stack(spikes), state


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize(("order", "reset", "detach", "beta"), OPTIONS)
def test_spikes_state_and_gradients_are_those_of_the_general_neuron(order, reset, detach, beta, local):
    neurons = layer(order, reset, detach, beta)
    current, weight = randn(T, B, N).requires_grad_(), (randn(N, N, seed=1)).requires_grad_()
    expected, state = step_by_step(current, weight, neurons.constants, local)
    found, end = neurons(current, weight, local=local)
    assert torch.equal(found, expected)
    assert 0.1 < found.mean() < 0.9
    torch.testing.assert_close(end.v_mem, state.v_mem, rtol=0, atol=1e-13)
    if beta:
        torch.testing.assert_close(end.spike_trace, state.spike_trace, rtol=0, atol=1e-13)
    by_spike = randn(T, B, N, seed=2)
    for a, b in zip(
        torch.autograd.grad(found, (current, weight), by_spike),
        torch.autograd.grad(expected, (current, weight), by_spike),
        strict=True,
    ):
        assert b.abs().max() > 0.1
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12 * b.abs().max().item())


@pytest.mark.parametrize("order", ORDERS)
def test_a_run_in_two_parts_is_one_run(order):
    neurons, current, weight = layer(order, "soft", True, 0.4, refractory=2), 2 * randn(T, B, N), randn(N, N, seed=1)
    whole, end = neurons(current, weight)
    first, middle = neurons(current[:5], weight)
    second, last = neurons(current[5:], weight, middle)
    assert torch.equal(whole, torch.cat([first, second]))
    assert all(torch.equal(a, b) for a, b in zip(end, last, strict=True))


@pytest.mark.parametrize("order", ORDERS)
def test_a_refractory_neuron_is_silent_for_its_steps_and_has_no_gradient_in_them(order):
    neurons = RecurrentLIF(1, refractory=3, tau_mem=2.0, reset_order=order, surrogate_slope=0.1)
    current = torch.full((9, 1, 1), 5.0, dtype=torch.float64, requires_grad=True)
    spikes, _ = neurons(current)
    assert spikes.flatten().tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    grad_current = torch.autograd.grad(spikes[1:4].sum(), current)[0]
    assert grad_current.abs().max() == 0


def test_only_the_last_neurons_adapt():
    neurons = layer("delayed", "soft", True, 0.9, adaptive=2)
    plain = layer("delayed", "soft", True, 0.0)
    all_adapt = layer("delayed", "soft", True, 0.9)
    current = 1 + randn(T, B, N)
    found, without, with_ = (x(current)[0] for x in (neurons, plain, all_adapt))
    assert torch.equal(found[..., :5], without[..., :5])
    assert torch.equal(found[..., 5:], with_[..., 5:])
    assert not torch.equal(found[..., 5:], without[..., 5:])


def test_constants_out_of_range_are_refused():
    for options in ({"adaptive": 8}, {"refractory": -1}, {"current_adaptation": 0.1}):
        with pytest.raises(ValueError, match="expected"):
            RecurrentLIF(N, **options)


def test_a_loop_of_two_neurons_worked_by_hand():
    # leak 1/2, V_th .7: a spike of neuron 0 gives neuron 1 a current of 1/2, one of neuron 1 gives neuron 0 one of 2
    neurons = RecurrentLIF(2, tau_mem=2.0, v_threshold=0.7, reset_order="charge_fire_reset")
    current = torch.tensor([[[0.8, 0.0]], [[0.0, 0.3]], [[0.0, 0.0]]])
    spikes, state = neurons(current, torch.tensor([[0.0, 2.0], [0.5, 0.0]]))
    # h0 = .8 | 0 | 2 ; h1 = 0 | .3 + .5 = .8 | 0
    assert spikes[:, 0].tolist() == [[1, 0], [0, 1], [1, 0]]
    assert state.v_mem.tolist() == [[0.0, 0.0]]
