"""Penalties by hand, and that their gradient pushes activity and weights where they say."""

from __future__ import annotations

import pytest
import torch

from snn_dt.experimental.rsnn.penalties import PenaltyConfig, penalty
from snn_dt.experimental.rsnn.recurrent import RecurrentLIF
from snn_dt.experimental.rsnn.spiking_network import LeakyReadout, RecurrentSNN

# neuron 0 fires in 3 of 4 steps, neuron 1 in 1, neuron 2 never
SPIKES = torch.tensor([[1.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]).unsqueeze(1)
NO_OTHERS = {"rate_target": 0.5, "rate_max": 0.5, "rate_min": 0.1}


def network_of() -> RecurrentSNN:
    torch.manual_seed(0)
    return RecurrentSNN(2, RecurrentLIF(3, tau_mem=2.0, v_threshold=0.4), LeakyReadout(3, 2, tau_out=3.0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rate", 1.0),
        ("target", 0.5 * (0.25**2 + 0.25**2 + 0.5**2)),
        ("above", 0.25**2),
        ("below", 0.1**2),
        ("operations", 4 * (3 + 1)),  # two recurrent targets and two outputs each
    ],
)
def test_a_term_by_hand(name, expected):
    network = network_of()
    assert penalty(PenaltyConfig(**NO_OTHERS, **{name: 2.0}), network, SPIKES).item() == pytest.approx(2 * expected)
    assert penalty(PenaltyConfig(**NO_OTHERS), network, SPIKES).item() == 0


def test_operations_follow_the_connections_that_exist():
    network = network_of()
    network.recurrent.mask[:, 0] = 0
    assert penalty(PenaltyConfig(operations=1.0), network, SPIKES).item() == 3 * 2 + 4


def test_weights_count_where_they_exist():
    network = network_of()
    network.input.mask[0] = 0
    exists = [part.weight[part.mask > 0].abs().sum() for part in network.synapses.values()]
    assert penalty(PenaltyConfig(weights=1.0), network, SPIKES).item() == pytest.approx(
        float(sum(exists).detach()), rel=1e-6
    )


@pytest.mark.parametrize("local", [False, True])
def test_a_penalty_on_rates_alone_takes_them_to_its_target(local):
    network, config = network_of(), PenaltyConfig(target=1.0, rate_target=0.5)
    x = (torch.rand(60, 8, 2, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    distance = []
    for _ in range(200):
        _, spikes = network(x, local)
        distance.append((spikes.detach().mean((0, 1)) - 0.5).abs().max().item())
        optimizer.zero_grad()
        penalty(config, network, spikes).backward()
        optimizer.step()
    assert distance[0] > 0.3
    assert distance[-1] < 0.06
