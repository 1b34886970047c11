"""What one decision costs: operations of the whole network, counted on the forwards that a rollout really makes.

A decision is one action of one environment; pads cost nothing. Counted are

- `macs`: multiply-accumulates on analogue values: embedding, head, dense layers, norms, softmax, gates, position code;
- `acs`: accumulates: one per spike and output of a spike-driven layer, attention products with spikes included, and the
  additions of positions, residual branches and means over simulation time;
- `neuron_updates`: one per neuron and simulation step (a leak is a multiply-accumulate, and is priced as one);
- `spikes`: of all LIF neurons and position generators;
- bytes of weights, of state, and of memory traffic, as lines of their own (`memory.py`): they are not in the energy.

A linear layer's bias is the initial value of its accumulator and costs nothing; neither does a norm that inference
folds into the linear layer before it, nor a binary gate. `DecisionMeter` counts, `rules.py` declares the cost of each
module type, `costs.py` explains how to declare a further one, `baselines.py` counts dense models for comparison.
"""

from snn_dt.energy.baselines import decision_transformer, dense_count, recurrent_baseline, same_tokens
from snn_dt.energy.costs import Call, costs, declared, role_of, wire
from snn_dt.energy.counts import HOROWITZ, LOIHI, Count, EnergyTable
from snn_dt.energy.meter import DecisionMeter, by_part
from snn_dt.energy.rules import NORM_ACS, NORM_MACS, TRANSCENDENTAL_MACS

__all__ = [
    "HOROWITZ",
    "LOIHI",
    "NORM_ACS",
    "NORM_MACS",
    "TRANSCENDENTAL_MACS",
    "Call",
    "Count",
    "DecisionMeter",
    "EnergyTable",
    "by_part",
    "costs",
    "decision_transformer",
    "declared",
    "dense_count",
    "recurrent_baseline",
    "role_of",
    "same_tokens",
    "wire",
]
