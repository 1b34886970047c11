"""The topology policy: what may not exist never does, what is weak for long goes, what grows is new."""

from __future__ import annotations

import pytest
import torch

from snn_dt.errors import ConfigError
from snn_dt.experimental.rsnn.recurrent import RecurrentLIF
from snn_dt.experimental.rsnn.spiking_network import LeakyReadout, RecurrentSNN
from snn_dt.experimental.rsnn.topology import Topology, TopologyConfig, allowed_connections

P, N, ADAPTIVE, K = 5, 8, 3, 2


def network_of() -> RecurrentSNN:
    torch.manual_seed(0)
    neurons = RecurrentLIF(N, ADAPTIVE, tau_mem=4.0, v_threshold=0.3, threshold_adaptation=0.2, tau_adaptation=9.0)
    return RecurrentSNN(P, neurons, LeakyReadout(N, K, tau_out=3.0))


def sgd(network) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1)


def masks(network) -> dict[str, torch.Tensor]:
    return {name: part.mask.clone() for name, part in network.synapses.items()}


def test_groups_allow_what_they_name_and_nothing_else():
    allowed = allowed_connections(network_of(), ("input>lif", "lif>alif", "alif>output"))
    lif = torch.arange(N) < N - ADAPTIVE
    assert torch.equal(allowed["input"], lif[:, None].expand(N, P))
    assert torch.equal(allowed["recurrent"], ~lif[:, None] & lif)
    assert torch.equal(allowed["readout"], (~lif).expand(K, N))
    everything = allowed_connections(network_of())
    assert not everything["recurrent"].diagonal().any()
    assert everything["recurrent"].sum() == N * (N - 1)
    assert everything["input"].all()
    assert everything["readout"].all()


@pytest.mark.parametrize("pair", ["output>lif", "input>output", "lif>input", "lif-alif"])
def test_roles_of_inputs_and_outputs_cannot_be_given_up(pair):
    with pytest.raises(ConfigError, match=f"found {pair}; nothing leads into an input or out of an output"):
        Topology(network_of(), TopologyConfig(allowed=(pair,)), 0)


def test_growth_and_pruning_keep_to_what_is_allowed_however_long():
    network = network_of()
    config = TopologyConfig(
        every=1, prune_below=0.3, patience=1, grow=9, allowed=("input>lif", "lif>lif", "lif>output")
    )
    topology, allowed = Topology(network, config, 0), allowed_connections(network, config.allowed)
    seen = {name: torch.zeros_like(mask) for name, mask in masks(network).items()}
    for step in range(60):
        topology.revise(step, sgd(network))
        for name, mask in masks(network).items():
            seen[name] += mask
            assert not (mask.bool() & ~allowed[name]).any()
    assert all((seen[name].bool() == allowed[name]).all() for name in seen)  # and everything allowed has been tried


def test_a_connection_goes_only_after_patience_weak_looks_in_a_row():
    network = network_of()
    topology = Topology(network, TopologyConfig(prune_below=0.01, patience=3), 0)
    weight, mask = network.input.weight, network.input.mask
    with torch.no_grad():
        for part in network.synapses.values():
            part.weight.fill_(1.0)
    for look, value in enumerate([0.0, 0.0, 1.0, 0.0, 0.0]):  # one strong look begins the count anew
        with torch.no_grad():
            weight[0, 0] = value
        assert topology.revise(look, sgd(network)) == {"pruned": 0, "grown": 0}
    assert topology.revise(5, sgd(network)) == {"pruned": 1, "grown": 0}
    assert mask[0, 0] == 0
    assert weight[0, 0] == 0
    assert topology.connections() == N * P + N * (N - 1) + K * N - 1


def test_growth_is_new_small_of_both_signs_and_a_function_of_seed_and_step():
    grown = []
    for seed in (0, 0, 1):
        network = network_of()
        topology = Topology(network, TopologyConfig(prune_below=0.0, grow=20, grow_scale=0.02, start=0.5), seed)
        before = masks(network)
        assert topology.revise(7, sgd(network)) == {"pruned": 0, "grown": 20}
        new = {name: (mask - before[name]).bool() for name, mask in masks(network).items()}
        values = torch.cat([network.synapses[name].weight[where] for name, where in new.items()])
        assert len(values) == 20
        assert sorted({round(value, 6) for value in values.tolist()}) == [-0.02, 0.02]
        grown.append(torch.cat([where.flatten() for where in new.values()]))
    assert torch.equal(grown[0], grown[1])
    assert not torch.equal(grown[0], grown[2])


def test_a_regrown_connection_is_not_moved_by_what_the_optimizer_remembers_of_the_old_one():
    network = network_of()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    x = (torch.rand(20, 4, P, generator=torch.Generator().manual_seed(0)) < 0.5).float()

    def update():
        optimizer.zero_grad()
        network(x)[0].square().sum().backward()
        optimizer.step()

    update()
    topology = Topology(network, TopologyConfig(prune_below=1e9, patience=1), 0)
    topology.revise(0, optimizer)
    assert topology.connections() == 0
    weight = network.input.weight
    assert optimizer.state[weight]["exp_avg"].abs().max() == 0
    before = weight.clone()
    update()
    assert torch.equal(weight, before)


def test_a_network_without_connections_into_its_neurons_is_silent_and_costs_only_its_inputs():
    network = network_of()
    Topology(network, TopologyConfig(allowed=("lif>output",)), 0)
    x = torch.ones(10, 1, P)
    _, spikes = network(x)
    assert spikes.sum() == 0
    assert network.synaptic_operations(x, spikes) == 0


def test_a_change_of_the_input_later_changes_nothing_before_whatever_has_grown():
    network = network_of()
    topology = Topology(network, TopologyConfig(prune_below=0.2, patience=1, grow=15), 0)
    for step in range(5):
        topology.revise(step, sgd(network))
    x = (torch.rand(20, 2, P, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    other = x.clone()
    other[12:] = 1 - other[12:]
    with torch.no_grad():
        (y, _), (z, _) = network(x), network(other)
    assert torch.equal(y[:12], z[:12])
    assert not torch.equal(y[12:], z[12:])
