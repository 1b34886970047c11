"""Bytes of a decision: what is stored, and what must move at the least. Values take 4 bytes, a spike one bit.

- parameters: all weights; norms that fold away have none.
- state: one membrane per neuron and token, what is carried to the next decision, and the window of inputs.
- traffic: every weight read once (of a table, the rows looked up), every output written and read once, every membrane
  and carried state read and written at each update. It is the least that a machine with room for one layer's work can
  do; one that fetches the weight of every accumulate anew moves 4 bytes for each of `macs` and `acs` instead.
"""

from __future__ import annotations

from torch import nn

from snn_dt.energy.costs import Call
from snn_dt.energy.counts import Count
from snn_dt.models.norms import PTBN

VALUE_BYTES, SPIKE_BYTES = 4.0, 1 / 8


def parameter_bytes(module: nn.Module, whole: bool) -> float:
    """Return the bytes of a module's own weights, or with those of its submodules."""
    return 0.0 if isinstance(module, PTBN) else VALUE_BYTES * sum(p.numel() for p in module.parameters(recurse=whole))


def state_bytes(module: nn.Module, call: Call, count: Count) -> float:
    """Return what the decisions of one call, which made `count`, hold: membranes, or state carried on."""
    if count.neuron_updates and not call.carried:
        return VALUE_BYTES * count.neuron_updates / getattr(module, "sim_steps", 1)
    return VALUE_BYTES * sum(x.numel() for x in call.carried)


def traffic_bytes(module: nn.Module, call: Call, count: Count, weights: float) -> float:
    """Return what one call, which made `count` with `weights` bytes of weights, moves."""
    output = VALUE_BYTES * call.elements(call.output)
    if isinstance(module, nn.Embedding):
        weights = output
    else:
        weights *= call.decisions
    if count.neuron_updates:
        return weights + 2 * (VALUE_BYTES + SPIKE_BYTES) * count.neuron_updates
    return weights + 2 * output + 2 * state_bytes(module, call, count)
