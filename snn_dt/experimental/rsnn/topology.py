"""Which connections exist: weak ones are pruned, new ones grown, within what groups of neurons may say to each other.

Groups: `input`, `lif`, `alif` (adaptive neurons), `output`. Nothing leads into an input, nothing out of an output,
nothing from a neuron to itself; a connection between hidden neurons acts one step later, so that whatever grows, the
network stays causal. Masks are [targets, sources], as weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snn_dt.errors import ConfigError
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN
from snn_dt.experimental.rsnn.streams import stream


@dataclass(frozen=True)
class TopologyConfig:
    """Sparse connections that move."""

    every: int = 0
    """Updates between two looks at the connections; 0 leaves them as they are."""
    prune_below: float = 0.01
    """A connection of less than this weight is weak."""
    patience: int = 3
    """It is pruned once it was weak in so many looks in a row."""
    grow: int = 0
    """Connections grown per look, among those that are allowed, do not exist and were not just pruned."""
    grow_scale: float = 0.01
    """Weight of a new connection, of either sign."""
    start: float = 1.0
    """Share of the allowed connections that exist at first."""
    allowed: tuple[str, ...] = ()
    """Pairs such as `input>lif`; empty allows all from an input or hidden neuron to a hidden neuron or an output."""


class Topology:
    """Keeps the masks of a network."""

    def __init__(self, network: RecurrentSNN, config: TopologyConfig, seed: int) -> None:
        """Allow what `config` allows, and draw what exists at first.

        Raises:
            ConfigError: a pair names no such groups.
        """
        self.network, self.config, self.seed = network, config, seed
        self.allowed = allowed_connections(network, config.allowed)
        self.weak = {name: torch.zeros_like(part.weight) for name, part in network.synapses.items()}
        generator = stream(seed, 0)
        for name, part in network.synapses.items():
            exists = torch.rand(part.mask.shape, generator=generator).to(part.mask) < config.start
            part.mask.copy_(self.allowed[name] & exists)

    @torch.no_grad()
    def look(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, int]:
        """Prune and grow after update `step`; a pure function of weights, counters, seed and `step`."""
        config, pruned = self.config, {}
        for name, part in self.network.synapses.items():
            weak = (part.weight.abs() < config.prune_below) & (part.mask > 0)
            self.weak[name] = torch.where(weak, self.weak[name] + 1, 0)
            pruned[name] = self.weak[name] >= config.patience
            part.mask[pruned[name]] = 0
        grown = self._grow(pruned, step)
        for name, part in self.network.synapses.items():
            _forget(part.weight, pruned[name] | grown[name], optimizer)
            part.weight[pruned[name]] = 0
            self.weak[name][pruned[name]] = 0
        return {
            "pruned": sum(int(p.sum()) for p in pruned.values()),
            "grown": sum(int(g.sum()) for g in grown.values()),
        }

    def connections(self) -> int:
        """Return how many connections exist."""
        return sum(int(part.mask.sum()) for part in self.network.synapses.values())

    def _grow(self, pruned: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return what has grown, chosen evenly among all that may."""
        synapses = self.network.synapses
        may = {name: self.allowed[name] & (part.mask == 0) & ~pruned[name] for name, part in synapses.items()}
        places = torch.cat([m.flatten() for m in may.values()]).nonzero().flatten()
        generator = stream(self.seed, step)
        order = torch.randperm(len(places), generator=generator)[: self.config.grow]
        chosen = torch.zeros(sum(m.numel() for m in may.values()), dtype=torch.bool, device=places.device)
        chosen[places[order.to(places.device)]] = True
        parts = chosen.split([m.numel() for m in may.values()])
        grown = {name: part.view_as(may[name]) for name, part in zip(may, parts, strict=True)}
        for name, part in synapses.items():
            signs = torch.randint(0, 2, part.mask.shape, generator=generator).to(part.weight) * 2 - 1
            part.mask[grown[name]] = 1
            part.weight[grown[name]] = (self.config.grow_scale * signs)[grown[name]]
        return grown

    def state_dict(self) -> dict[str, Any]:
        """Return the counters; masks are buffers of the network."""
        return dict(self.weak)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.weak = dict(state)


def allowed_connections(network: RecurrentSNN, pairs: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return which connections may exist `[targets, sources]` bool, by name as in `RecurrentSNN.synapses`.

    Raises:
        ConfigError: a pair is not of the form `from>to`, from `input`, `lif` or `alif`, to `lif`, `alif` or `output`.
    """
    adaptive = network.neurons.beta > 0
    every = torch.ones_like(adaptive)
    hidden = {"lif": ~adaptive, "alif": adaptive}
    sides = {"input": ({"input": every.new_ones(network.input.weight.shape[1])}, hidden)}
    if network.recurrent is not None:
        sides["recurrent"] = (hidden, hidden)
    sides["readout"] = (hidden, {"output": every.new_ones(network.readout.synapses.weight.shape[0])})
    known = {f"{a}>{b}" for sources, targets in sides.values() for a in sources for b in targets}
    if unknown := sorted(set(pairs) - known):
        raise ConfigError(
            f"topology.allowed: expected pairs of {', '.join(sorted(known))}, found {unknown[0]}; nothing leads into "
            "an input or out of an output"
        )
    allowed = {}
    for name, (sources, targets) in sides.items():
        blocks = [
            b[:, None] & a for x, a in sources.items() for y, b in targets.items() if not pairs or f"{x}>{y}" in pairs
        ]
        shape = network.synapses[name].mask
        allowed[name] = torch.stack(blocks).any(0) if blocks else torch.zeros_like(shape, dtype=torch.bool)
    if "recurrent" in allowed:
        allowed["recurrent"].fill_diagonal_(False)
    return allowed


def _forget(weight: Tensor, changed: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Clear what the optimizer remembers of connections that are no longer the same."""
    for value in optimizer.state.get(weight, {}).values():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            value[changed] = 0
