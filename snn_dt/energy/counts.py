"""Counts of operations, and the energy of an operation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Count:
    """Numbers of operations and spikes, and bytes moved where they are asked for (`memory.py`)."""

    macs: float = 0.0
    acs: float = 0.0
    neuron_updates: float = 0.0
    spikes: float = 0.0
    memory_bytes: float = 0.0

    def __add__(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __mul__(self, n: float) -> Count:
        return Count(*(a * n for a in vars(self).values()))

    def __truediv__(self, n: float) -> Count:
        return Count(*(a / n for a in vars(self).values()))


@dataclass(frozen=True)
class EnergyTable:
    """Energy per operation in picojoules, with its source.

    If `neuron_update_pj` is None, an update costs as much as a multiply-accumulate. `byte_pj` is the energy of memory
    traffic, which is reported separately and never part of `energy_pj`.
    """

    mac_pj: float = 4.6
    ac_pj: float = 0.9
    neuron_update_pj: float | None = None
    spike_pj: float = 0.0
    byte_pj: float = 24.96
    source: str = "45 nm, 32-bit float: Horowitz, ISSCC 2014; 3.12 pJ per bit of memory traffic, as SpikingJelly 2.0"

    def energy_pj(self, count: Count) -> float:
        """Return the energy of a count: `mac_pj MACs + ac_pj ACs + neuron_update_pj updates + spike_pj spikes`."""
        # The leak of a neuron is one multiply-accumulate.
        update_pj = self.mac_pj if self.neuron_update_pj is None else self.neuron_update_pj
        operations = self.mac_pj * count.macs + self.ac_pj * count.acs
        return operations + update_pj * count.neuron_updates + self.spike_pj * count.spikes

    def total_pj(self, count: Count) -> float:
        """Return the energy of operations and memory traffic: `energy_pj(count) + byte_pj memory_bytes`."""
        return self.energy_pj(count) + self.byte_pj * count.memory_bytes


HOROWITZ = EnergyTable()
LOIHI = EnergyTable(
    mac_pj=1.7,
    ac_pj=1.7,
    neuron_update_pj=81.0,
    spike_pj=23.6,
    source="Loihi as arXiv 2510.24461 prices it: 1.7 pJ a synapse, 23.6 pJ a spike, 81 pJ a neuron",
)
"""For comparison with the 97.4 nJ of that paper, which counts every synapse even without a spike."""
