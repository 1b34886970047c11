"""The fast scan of neurons with constants of their own is the general neuron, to the last spike and gradient."""

from __future__ import annotations

import torch

from snn_dt.snn import LIF
from snn_dt.snn.own_constants import OwnConstantsLIF


def pair() -> tuple[OwnConstantsLIF, LIF]:
    own = OwnConstantsLIF(7, 5.0, torch.Generator().manual_seed(1)).double()
    general = LIF(
        reset="soft", reset_order="delayed", detach_reset=True, surrogate_slope=5.0,
        learnable=("tau_mem", "v_threshold"), neurons=7,
    ).double()  # fmt: skip
    general.load_state_dict(own.state_dict())
    return own, general


def test_spikes_states_and_gradients_are_those_of_the_general_neuron():
    current = torch.randn(30, 4, 7, dtype=torch.float64)
    weights = torch.randn(30, 4, 7, dtype=torch.float64)
    found = []
    for neuron in pair():
        x = current.clone().requires_grad_()
        spikes, state = neuron(x)
        (spikes * weights).sum().backward()
        found.append((spikes.detach(), state.v_mem.detach(), x.grad, neuron.raw_leak.grad, neuron.raw_threshold.grad))
    assert 0.1 < found[0][0].mean() < 0.9
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_train_cut_in_two_is_the_whole_train():
    own, _ = pair()
    current = torch.randn(20, 3, 7, dtype=torch.float64)
    whole, _ = own(current)
    first, state = own(current[:8])
    second, _ = own(current[8:], state)
    assert torch.equal(whole, torch.cat([first, second]))


def test_a_trace_by_hand():
    own = OwnConstantsLIF(1, 10.0).double()
    with torch.no_grad():
        own.raw_leak.fill_(0.0)  # beta = 1/2
        own.raw_threshold.copy_(torch.ones(1).expm1().log())  # theta = 1
    spikes, state = own(torch.tensor([0.8, 0.8, 0.0, 0.9])[:, None, None].double())
    # V: 0.8; 0.4 + 0.8 = 1.2, a spike; 0.6 - 1 = -0.4; -0.2 + 0.9 = 0.7
    assert spikes.flatten().tolist() == [0, 1, 0, 0]
    torch.testing.assert_close(state.v_mem.item(), 0.7, rtol=1e-6, atol=1e-6)
