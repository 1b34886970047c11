"""Reward-modulated Hebb by hand numbers, and that it learns what it is paid for."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from snn_dt.experimental.rsnn.hebbian import Hebbian, HebbianConfig, eligibility, reward
from snn_dt.experimental.rsnn.recurrent import RecurrentLIF
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN, SpikingReadout

CONFIG = HebbianConfig()


def network_of(hidden: int = 2, outputs: int = 3, inputs: int = 2) -> RecurrentSNN:
    torch.manual_seed(0)
    lif = {"tau_mem": 2.0, "v_threshold": 0.5}
    return RecurrentSNN(inputs, RecurrentLIF(hidden, **lif), SpikingReadout(hidden, outputs, lif))


def test_the_reward_rises_with_the_margin_and_is_half_way_for_a_tie():
    margins = torch.linspace(-0.05, 0.05, 101)
    paid = reward(CONFIG, margins)
    assert (paid.diff() > 0).all()
    assert reward(CONFIG, torch.tensor([0.0])).item() == pytest.approx(0.2)  # (1.2 - 0.8) / 2
    assert reward(CONFIG, torch.tensor([0.01])).item() == pytest.approx(-0.8 + 2 / (1 + math.exp(-1)), abs=1e-6)
    defect = torch.sigmoid(CONFIG.steepness * (CONFIG.margin - margins))  # of GliaGL, as published
    assert (defect.diff() <= 0).all()


def test_the_reward_by_sign_pays_one_of_two_values_and_nothing_extra_for_a_tie():
    config = dataclasses.replace(CONFIG, reward="sign")
    torch.testing.assert_close(reward(config, torch.tensor([0.3, 0.0, -0.1])), torch.tensor([1.2, -0.8, -0.8]))


def test_eligibility_by_hand():
    pre = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(4, 1, 1)
    post = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(4, 1, 1)
    # trace 1, .5, 1.25, .625; fired at steps 2 and 3: (.5 + 1.25) / 4
    assert eligibility(pre, post, 0.5).item() == pytest.approx(0.4375)


def spikes_and_outputs():
    spikes = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).view(2, 1, 2)
    outputs = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]).view(2, 1, 3)  # rates 1, .5, 0: output 0 answers
    return torch.ones(2, 1, 2), spikes, outputs


@pytest.mark.parametrize(("gate", "rows"), [("winner", [0]), ("target", [1]), ("none", [0, 1])])
def test_an_update_by_hand(gate, rows):
    network = network_of()
    rule = Hebbian(network, dataclasses.replace(CONFIG, reward="sign", gate=gate, trace=0.0))
    rule.expected = torch.tensor(0.2)
    rule.learn(*spikes_and_outputs(), torch.tensor([1]))  # wrong: R = -.8, R - Rbar = -1
    e = torch.tensor([[1.0, 0.5], [0.5, 0.5], [0.0, 0.0]])  # mean over steps of post x pre
    expected = torch.zeros(3, 2)
    expected[rows] = e[rows]  # -dw / eta = e, so that a step of SGD weakens what led to the wrong answer
    expected -= torch.tensor([[0.1 * (0.05 - 1)], [0.1 * (0.05 - 0.5)], [0.1 * 0.05]])  # homeostasis of rates 1, .5, 0
    torch.testing.assert_close(network.readout.synapses.weight.grad, expected)
    assert network.recurrent.weight.grad is None
    assert rule.expected.item() == pytest.approx(0.2 + 0.1 * (-0.8 - 0.2))


def test_a_clearly_right_answer_changes_nothing_unless_asked_to():
    for skip in (True, False):
        network = network_of()
        rule = Hebbian(network, dataclasses.replace(CONFIG, skip_clear=skip, homeostasis=0.0))
        rule.learn(*spikes_and_outputs(), torch.tensor([0]))
        assert (network.readout.synapses.weight.grad.abs().max() == 0) == skip


def test_hidden_connections_learn_with_the_spike_before_and_never_where_there_is_no_synapse():
    network = network_of()
    rule = Hebbian(network, dataclasses.replace(CONFIG, plastic=("recurrent",), trace=0.0, homeostasis=0.0))
    rule.learn(*spikes_and_outputs(), torch.tensor([2]))
    gradient = network.recurrent.weight.grad
    assert gradient.diagonal().abs().max() == 0
    assert gradient[1, 0] != 0  # neuron 0 fired at step 1, neuron 1 at step 2
    assert gradient[0, 1] == 0  # neuron 1 fired at step 2 alone
    with pytest.raises(ValueError, match="plastic: expected some of input, recurrent, readout; found everything"):
        Hebbian(network, dataclasses.replace(CONFIG, plastic=("everything",)))
