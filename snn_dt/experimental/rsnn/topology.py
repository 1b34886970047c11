"""Pruning of weak connections and growth of new ones during training.

The groups of neurons are `input`, `lif`, `alif` (adaptive) and `output`. Inputs receive no connections and outputs send
none. Self-connections are not allowed. A connection between hidden neurons acts one step later, so the network stays
causal. Masks are [targets, sources] like weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snn_dt.errors import ConfigError
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN


@dataclass(frozen=True)
class TopologyConfig:
    """Pruning and growth of connections."""

    every: int = 0
    """Updates between two revisions of the connections; 0 keeps them fixed."""
    prune_below: float = 0.01
    """A connection with a smaller absolute weight is weak."""
    patience: int = 3
    """Consecutive revisions in which a connection must be weak to be pruned."""
    grow: int = 0
    """Connections grown per revision, among allowed ones that do not exist and were not just pruned."""
    grow_scale: float = 0.01
    """Absolute weight of a new connection; its sign is random."""
    start: float = 1.0
    """Initial share of the allowed connections that exist."""
    allowed: tuple[str, ...] = ()
    """Allowed pairs of groups, such as `input>lif`; empty allows all pairs of the network."""


def update_generator(seed: int, step: int) -> torch.Generator:
    """Return the random generator of one update. It depends on (seed, step) only, so a resumed run draws the same.

    torch uses 32 bits of a seed, so seed and step are mixed into one number.
    """
    return torch.Generator().manual_seed((step + 0x9E3779B1 * seed) % 2**32)


class Topology:
    """The connection masks of a network with their pruning and growth."""

    def __init__(self, network: RecurrentSNN, config: TopologyConfig, seed: int) -> None:
        """Set the allowed connections and draw the initial ones.

        Raises:
            ConfigError: a pair of `config.allowed` names no groups of this network.
        """
        self.network, self.config, self.seed = network, config, seed
        self.allowed = allowed_connections(network, config.allowed)
        # consecutive revisions in which a connection was weak
        self.weak = {name: torch.zeros_like(part.weight) for name, part in network.synapses.items()}
        generator = update_generator(seed, 0)
        for name, part in network.synapses.items():
            # drawn on the CPU: the same on every device
            exists = torch.rand(part.mask.shape, generator=generator).to(part.mask) < config.start
            part.mask.copy_(self.allowed[name] & exists)

    @torch.no_grad()
    def revise(self, step: int, optimizer: torch.optim.Optimizer) -> dict[str, int]:
        """Prune and grow after update `step`. The result depends on weights, counters, seed and `step` only."""
        config, pruned = self.config, {}
        for name, part in self.network.synapses.items():
            weak = (part.weight.abs() < config.prune_below) & (part.mask > 0)
            self.weak[name] = torch.where(weak, self.weak[name] + 1, 0)  # one strong revision resets the counter
            pruned[name] = self.weak[name] >= config.patience
            part.mask[pruned[name]] = 0
        # after pruning in all layers: growth chooses among the candidates of the whole network
        grown = self._grow(pruned, step)
        for name, part in self.network.synapses.items():
            _reset_optimizer_state(part.weight, pruned[name] | grown[name], optimizer)
            part.weight[pruned[name]] = 0  # otherwise it would keep its old weight when it grows again
            self.weak[name][pruned[name]] = 0
        return {
            "pruned": sum(int(p.sum()) for p in pruned.values()),
            "grown": sum(int(g.sum()) for g in grown.values()),
        }

    def connections(self) -> int:
        """Return the number of existing connections."""
        return sum(int(part.mask.sum()) for part in self.network.synapses.values())

    def _grow(self, pruned: dict[str, Tensor], step: int) -> dict[str, Tensor]:
        """Grow connections chosen uniformly among all candidates of all layers; return their masks."""
        synapses = self.network.synapses
        candidates = {name: self.allowed[name] & (part.mask == 0) & ~pruned[name] for name, part in synapses.items()}
        # indices of the candidates in the concatenation of all layers
        places = torch.cat([m.flatten() for m in candidates.values()]).nonzero().flatten()
        generator = update_generator(self.seed, step)
        order = torch.randperm(len(places), generator=generator)[: self.config.grow]  # without replacement
        chosen = torch.zeros(sum(m.numel() for m in candidates.values()), dtype=torch.bool, device=places.device)
        chosen[places[order.to(places.device)]] = True
        parts = torch.split(chosen, [m.numel() for m in candidates.values()])  # back to one part per layer
        # [targets * sources] -> [targets, sources]
        grown = {name: part.view_as(candidates[name]) for name, part in zip(candidates, parts, strict=True)}
        for name, part in synapses.items():
            signs = torch.randint(0, 2, part.mask.shape, generator=generator).to(part.weight) * 2 - 1  # -1 or 1
            part.mask[grown[name]] = 1
            part.weight[grown[name]] = (self.config.grow_scale * signs)[grown[name]]
        return grown

    def state_dict(self) -> dict[str, Any]:
        """Return the counters of weak revisions; the masks are buffers of the network."""
        return dict(self.weak)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.weak = dict(state)


def allowed_connections(network: RecurrentSNN, pairs: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Return masks (bool [targets, sources]) of the allowed connections by the names of `RecurrentSNN.synapses`.

    Raises:
        ConfigError: a pair is not `from>to` with `from` in input, lif, alif and `to` in lif, alif, output.
    """
    adaptive = network.neurons.beta > 0
    every = torch.ones_like(adaptive)
    hidden = {"lif": ~adaptive, "alif": adaptive}  # masks over the hidden neurons [N]
    # layer: groups of its sources and groups of its targets
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
            # outer product of target and source group, [targets, sources]
            b[:, None] & a
            for x, a in sources.items()
            for y, b in targets.items()
            if not pairs or f"{x}>{y}" in pairs
        ]
        shape = network.synapses[name].mask
        # [pairs, targets, sources] -> [targets, sources]
        allowed[name] = torch.stack(blocks).any(0) if blocks else torch.zeros_like(shape, dtype=torch.bool)
    if "recurrent" in allowed:
        allowed["recurrent"].fill_diagonal_(False)  # no self-connections
    return allowed


def _reset_optimizer_state(weight: Tensor, changed: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """Set the optimizer's moments of pruned and new connections to 0."""
    for value in optimizer.state.get(weight, {}).values():
        # moments have the weight's shape, step counters do not
        if isinstance(value, Tensor) and value.shape == weight.shape:
            value[changed] = 0
