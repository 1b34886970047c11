"""e-prop: traces forward in time, the local gradient backwards and full BPTT, exactly equal where they must be."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from snn_dt.experimental.rsnn.recurrent import RecurrentLIF
from snn_dt.experimental.rsnn.spiking_network import LeakyReadout, RecurrentSNN, SpikingReadout
from tests.experimental.rsnn.eprop_reference import Eligibility, OnlineEprop, online_gradients
from tests.snn.test_variants import DETACH, ORDERS, RESETS, randn

T, B, P, N, K = 25, 3, 6, 8, 2
OPTIONS = list(itertools.product(ORDERS, RESETS, DETACH, [0.0, 0.3]))


def network_of(order="delayed", reset="soft", detach=True, beta=0.3, recurrent=True, seed=0, refractory=0, **feedback):
    torch.manual_seed(seed)
    neurons = RecurrentLIF(
        N, N // 2 if beta else 0, refractory, tau_mem=5.0, v_threshold=0.4, c_m=0.7, v_rest=-0.1, tau_adaptation=9.0,
        reset_order=order, reset=reset, detach_reset=detach, threshold_adaptation=beta, surrogate_slope=2.0,
    )  # fmt: skip
    network = RecurrentSNN(P, neurons, LeakyReadout(N, K, tau_out=4.0, **feedback), recurrent).double()
    return network


def inputs(seed=5):
    return (torch.rand(T, B, P, generator=torch.Generator().manual_seed(seed)) < 0.4).double()


def loss_of(y, target):
    return 0.5 * (y - target).square().sum()


def gradients(network, local, target, x=None):
    network.zero_grad()
    y, spikes = network(inputs() if x is None else x, local)
    assert 0.03 < spikes.mean() < 0.7
    loss_of(y, target).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def online(network, target):
    network.zero_grad()
    y = online_gradients(network, inputs(), lambda t, y: y - target[t])
    return y, {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def assert_same(found, expected, tolerance=1e-12):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value.abs().max() > 1e-3, name
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance * value.abs().max().item())


@pytest.mark.parametrize(("order", "reset", "detach", "beta"), OPTIONS)
def test_without_recurrence_eprop_is_bptt(order, reset, detach, beta):
    network, target = network_of(order, reset, detach, beta, recurrent=False), randn(T, B, K)
    bptt = gradients(network, False, target)
    y, forward = online(network, target)
    assert_same(forward, bptt)
    assert_same(gradients(network, True, target), bptt)
    torch.testing.assert_close(y, network(inputs())[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize(("order", "reset", "detach", "beta"), OPTIONS)
def test_with_recurrence_traces_forward_equal_the_local_gradient_backwards(order, reset, detach, beta):
    network, target = network_of(order, reset, detach, beta, refractory=2), randn(T, B, K)
    local = gradients(network, True, target)
    assert_same(online(network, target)[1], local)
    bptt = gradients(network, False, target)
    assert_same({"w": local["readout.synapses.weight"]}, {"w": bptt["readout.synapses.weight"]})
    assert (local["recurrent.weight"] - bptt["recurrent.weight"]).abs().max() > 1e-3


@pytest.mark.parametrize(("order", "reset"), list(itertools.product(ORDERS, ["hard", "soft"])))
def test_a_trace_without_the_attached_reset_is_not_exact(order, reset):
    """What makes the traces of this package more than a filter of the input: the neuron's own Jacobian."""
    target = randn(T, B, K)
    exact = gradients(network_of(order, reset, False, 0.0, recurrent=False), False, target)["input.weight"]
    plain = gradients(network_of(order, reset, True, 0.0, recurrent=False), True, target)["input.weight"]
    cosine = F.cosine_similarity(exact.flatten(), plain.flatten(), 0)
    assert 0.5 < cosine < 0.9999


@pytest.mark.parametrize(("order", "reset"), list(itertools.product(ORDERS, ["hard", "soft"])))
def test_with_the_total_derivative_for_a_learning_signal_the_factorisation_is_exact(order, reset):
    """Bellec et al. 2020, Eq. 1: dE/dW = sum_t dE/dz_t e_t, where dE/dz_t goes through other neurons too."""
    network, target = network_of(order, reset, False, 0.3), randn(T, B, K)
    bptt = gradients(network, False, target)
    x, weight = inputs(), network.recurrent().detach()
    current = (x @ network.input().t()).detach().requires_grad_()
    spikes, _ = network.neurons(current, weight)
    grad_current, by_spike = torch.autograd.grad(loss_of(network.readout(spikes), target), (current, spikes))
    total = by_spike + torch.cat([grad_current[1:] @ weight, torch.zeros_like(grad_current[:1])])
    state = network.neurons.rest(current)
    traces = Eligibility(network.neurons, x.new_zeros(B, N, P)), Eligibility(network.neurons, x.new_zeros(B, N, N))
    found = [torch.zeros(N, P).double(), torch.zeros(N, N).double()]
    for t in range(T):
        before, now = state.spikes, network.neurons.run(current[t : t + 1].detach(), weight, state)
        for i, (trace, pre) in enumerate(zip(traces, (x[t], before), strict=True)):
            found[i] += torch.einsum("bn,bnp->np", total[t], trace.step(pre, before, now))
        state = now.state
    found[1] *= network.recurrent.mask
    names = ("input.weight", "recurrent.weight")
    assert_same(dict(zip(names, found, strict=True)), {name: bptt[name] for name in names})


def test_dampening_and_the_gain_of_the_read_out_are_in_every_gradient():
    def grads(recurrent, dampening, gain):
        network = network_of(beta=0.0, recurrent=recurrent, gain=gain)
        network.neurons.dampening = dampening
        target = network(inputs())[0].detach() - 1.0  # an error of 1 whatever the gain
        return online(network, target)[1], gradients(network, True, target), gradients(network, False, target)

    for recurrent in (False, True):
        forward, local, bptt = grads(recurrent, 0.3, 2.0)
        assert_same(forward, local)
        if not recurrent:
            assert_same(local, bptt)
            plain = grads(recurrent, 1.0, 1.0)[2]["input.weight"]
            torch.testing.assert_close(bptt["input.weight"], 0.6 * plain, rtol=1e-12, atol=1e-14)


def test_a_trace_by_hand():
    # one LIF, alpha 1/2, V_th 1, soft reset, triangle of slope 1: psi = 1 - |u|
    neurons = RecurrentLIF(1, tau_mem=2.0, reset="soft", surrogate="triangle", surrogate_slope=1.0)
    trace, state = Eligibility(neurons, torch.zeros(1, 1, 1)), neurons.rest(torch.zeros(1, 1))
    seen = []
    for x in (1.0, 1.0, 0.0):
        before, now = state.spikes, neurons.run(torch.full((1, 1, 1), 0.75 * x), None, state)
        seen.append((now.spikes.item(), round(trace.step(torch.full((1, 1), x), before, now).item(), 6)))
        state = now.state
    # h .75, u -.25, psi .75: e = .75, eps_V = 1 - .75 = .25
    # h = .375 + .75 = 1.125, psi .875: eps_h = 1.125, e = .984375, eps_V = .140625
    # h = (1.125 - 1) / 2 = .0625, psi .0625: eps_h = .0703125
    assert seen == [(0.0, 0.75), (1.0, 0.984375), (0.0, round(0.0625 * 0.0703125, 6))]


@pytest.mark.parametrize("feedback", ["random", "adaptive"])
def test_other_feedback_weights_bring_the_errors_back(feedback):
    network, target = network_of(feedback=feedback, seed=1), randn(T, B, K)
    local = gradients(network, True, target)
    assert_same(online(network, target)[1], local)
    if feedback == "adaptive":
        assert torch.equal(local["readout.feedback"], local["readout.synapses.weight"])
    symmetric = network_of(seed=1)
    symmetric.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        symmetric.readout.synapses.weight.copy_(network.readout.back)
    # The same learning signals from a network whose read-out is B, where its outputs' errors are those of W.
    y = network(inputs())[0].detach()
    network_signal = gradients(symmetric, True, (symmetric(inputs())[0] - y + target).detach())
    assert_same({"w": local["recurrent.weight"]}, {"w": network_signal["recurrent.weight"]})


def test_adaptive_feedback_that_decays_with_the_read_out_becomes_it():
    network, target = network_of(feedback="adaptive"), randn(T, B, K)
    readout = network.readout
    optimizer = torch.optim.SGD([readout.synapses.weight, readout.feedback], lr=0.01, weight_decay=5.0)
    distance = [(readout.feedback - readout.synapses.weight).norm().item()]
    for _ in range(40):
        gradients(network, True, target)
        optimizer.step()
        distance.append((readout.feedback - readout.synapses.weight).norm().item())
    assert distance[-1] == pytest.approx(distance[0] * 0.95**40, rel=1e-6)
    assert readout.synapses.weight.norm() > 1e-2


def test_reward_based_eprop_online_is_the_policy_gradient_with_the_advantage():
    """sum_t delta_t F_gamma(L ebar)_t = sum_t (R_t - V_t) L_t ebar_t, for softmax actions and a value."""
    gamma, network, x = 0.9, network_of(seed=2, recurrent=True), inputs()
    actions, rewards = torch.randint(0, K - 1, (T, B)), randn(T, B, seed=3)
    learner, values = OnlineEprop(network, B, fade=gamma), []

    def errors(y, action):
        logits, one_hot = y[:, : K - 1], F.one_hot(action, K - 1)
        return torch.cat([torch.softmax(logits, -1) - one_hot, -0.5 * torch.ones_like(y[:, :1])], -1)

    network.zero_grad()
    for t in range(T):
        y = learner.step(x[t])
        values.append(y[:, -1])
        if t:
            learner.reinforce(rewards[t - 1] + gamma * values[t] - values[t - 1])
        learner.blame(errors(y, actions[t]))
    learner.reinforce(rewards[-1] - values[-1])
    found = {name: p.grad.clone() for name, p in network.named_parameters()}

    network.zero_grad()
    y, _ = network(x, local=True)
    returns, following = [], torch.zeros(B).double()
    for reward in rewards.flip(0):
        following = reward + gamma * following
        returns.insert(0, following)
    advantage = (torch.stack(returns) - y[..., -1]).detach()
    by_output = torch.stack([errors(y[t].detach(), actions[t]) for t in range(T)]) * advantage.unsqueeze(-1)
    y.backward(by_output)
    assert_same(found, {name: p.grad for name, p in network.named_parameters()}, 1e-11)


def test_a_row_that_begins_anew_forgets_everything():
    network, x = network_of(), inputs()
    learner, fresh = OnlineEprop(network, B, fade=0.9), OnlineEprop(network, B, fade=0.9)
    for t in range(10):
        learner.blame(learner.step(x[t]))
    learner.begin(torch.tensor([False, True, False]))
    network.zero_grad()
    for t in range(10, T):
        y, z = learner.step(x[t]), fresh.step(x[t])
        assert torch.equal(y[1], z[1])
        for one, signal in ((learner, y), (fresh, z)):
            one.blame(signal)
    for name, value in learner.blamed.items():
        assert torch.equal(value[1], fresh.blamed[name][1])
    assert not torch.equal(y[0], z[0])


def test_a_spiking_read_out_learns_its_own_synapses_exactly_and_hands_errors_back_without_its_membrane():
    torch.manual_seed(0)
    lif = {"tau_mem": 3.0, "v_threshold": 0.3, "surrogate_slope": 2.0}
    network = RecurrentSNN(P, RecurrentLIF(N, **lif), SpikingReadout(N, K, lif), recurrent=False).double()
    by_output = randn(T, B, K)

    def grads(local):
        network.zero_grad()
        y, _ = network(inputs(), local)
        assert 0.02 < y.mean() < 0.9
        (y * by_output).sum().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters()}, y.detach()

    (bptt, y), (local, same) = grads(False), grads(True)
    torch.testing.assert_close(y, same, rtol=0, atol=1e-14)
    names = ["readout.synapses.weight", "input.weight"]
    assert_same({names[0]: local[names[0]]}, {names[0]: bptt[names[0]]})
    assert not torch.allclose(local[names[1]], bptt[names[1]])
    # A neuron of one step, with no past, has no membrane to leave out.
    x = inputs()[:1]
    both = []
    for one in (False, True):
        network.zero_grad()
        (network(x, one)[0] * by_output[:1]).sum().backward()
        both.append(network.input.weight.grad.clone())
    assert both[0].abs().max() > 1e-3
    torch.testing.assert_close(*both, rtol=0, atol=1e-13)
