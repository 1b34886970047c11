"""Memory of a decision: bytes stored, and the least bytes moved. A value takes 4 bytes and a spike one bit.

- parameters: all weights. Norms that are folded at inference have none.
- state: one membrane potential per neuron and token, the state carried to the next decision, the window of inputs.
- traffic: each weight is read once; of a table only the rows looked up. Each output is written and read once. Each
  membrane potential and carried state is read and written at each update.

The traffic is a lower bound, for a machine that holds one layer in fast memory. A machine that fetches a weight for
each accumulate moves 4 bytes for each of `macs` and `acs` instead.
"""

from __future__ import annotations

from torch import nn

from snn_dt.energy.costs import Call
from snn_dt.energy.counts import Count
from snn_dt.models.norms import PTBN

VALUE_BYTES, SPIKE_BYTES = 4.0, 1 / 8


def parameter_bytes(module: nn.Module, whole: bool) -> float:
    """Return the bytes of a module's weights; with `whole` those of its submodules too."""
    return 0.0 if isinstance(module, PTBN) else VALUE_BYTES * sum(p.numel() for p in module.parameters(recurse=whole))


def state_bytes(module: nn.Module, call: Call, count: Count) -> float:
    """Return the bytes of membrane potentials or carried state after a call with these counts."""
    if count.neuron_updates and not call.carried:
        # A neuron keeps one potential for all its simulation steps.
        return VALUE_BYTES * count.neuron_updates / getattr(module, "sim_steps", 1)
    return VALUE_BYTES * sum(x.numel() for x in call.carried)


def traffic_bytes(module: nn.Module, call: Call, count: Count, weights: float) -> float:
    """Return the bytes that a call with these counts and `weights` bytes of weights moves."""
    output = VALUE_BYTES * call.elements(call.output)
    if isinstance(module, nn.Embedding):
        # A lookup reads one row per token, as large as its output.
        weights = output
    else:
        weights *= call.decisions
    if count.neuron_updates:
        # Potential and spike are each written once and read once per update.
        return weights + 2 * (VALUE_BYTES + SPIKE_BYTES) * count.neuron_updates
    return weights + 2 * output + 2 * state_bytes(module, call, count)
