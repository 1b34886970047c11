"""Memory of a decision: bytes stored, and the least bytes moved. A value takes 4 bytes and a spike one bit.

- parameters: all weights. Norms that are folded at inference have none.
- state: one membrane potential per neuron and token, the state carried to the next decision, the window of inputs.
- traffic: each weight is read once; of a table only the rows looked up. Each output is written and read once. Each
  membrane potential and carried state is read and written at each update.
- kept keys and values of a model with an attention span: those of earlier tokens are read once per decision and layer.
  Those of new tokens are outputs, which are written and read once anyway.

The traffic is a lower bound, for a machine that holds one layer in fast memory. A machine that fetches a weight for
each accumulate moves 4 bytes for each of `macs` and `acs` instead.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from snn_dt.energy.costs import Call
from snn_dt.energy.counts import Count
from snn_dt.models.norms import PTBN
from snn_dt.snn import SpikingLayer

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


def kept_bytes(model: Any, steps: Tensor) -> tuple[float, float]:
    """Return the bytes of keys and values that are stored after a decision, and of those that it has read, all rows.

    Args:
        model: a `DecisionTransformer` with an attention span.
        steps: `[B]`, number of decisions of each episode, this one included.
    """
    ring, config = model.ring, model.config
    spikes = any(isinstance(m, SpikingLayer) for m in model.blocks.modules())
    of_token = 2 * config.d_model * (SPIKE_BYTES * config.sim_steps if spikes else VALUE_BYTES) * config.n_layers
    p, behind = ring.per_step, int(ring.per_step > 1)  # the action of the last step is not known yet
    earlier = (steps - 1).clamp(max=ring.span - 1 + behind)
    # The tokens of earlier steps but for their last action, which is new: [B]
    read = p * earlier - behind * (earlier > 0)
    stored = (p * steps - behind).clamp(max=ring.capacity)
    return float(stored.sum()) * of_token, float(read.sum()) * of_token
