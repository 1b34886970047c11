"""Cost of one decision: operations of the whole network, counted on the forwards of a rollout.

A decision is one action of one environment. Pads cost nothing. The meter counts

- `macs`: multiply-accumulates on analogue values (embedding, head, dense layers, norms, softmax, gates, positions).
- `acs`: accumulates. A spike-driven layer has one per spike and output, and so have attention products with spikes. The
  additions of positions, residual branches and means over simulation time count too.
- `neuron_updates`: one per neuron and simulation step. A leak is a multiply-accumulate and is priced as one.
- `spikes`: of all LIF neurons and position generators.
- bytes of weights, state and memory traffic (`memory.py`). The energy does not include them.

The bias of a linear layer is the initial value of its accumulator and costs nothing. A norm that inference folds into
the linear layer before it costs nothing. A binary gate costs nothing.

`DecisionMeter` counts. `rules.py` declares the cost of each module type. `costs.py` explains how to declare a new type.
`baselines.py` counts dense models for comparison.
"""

from snn_dt.energy.baselines import (
    cached_count,
    cached_decision_transformer,
    decision_transformer,
    dense_count,
    recurrent_baseline,
    same_tokens,
)
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
    "cached_count",
    "cached_decision_transformer",
    "costs",
    "decision_transformer",
    "declared",
    "dense_count",
    "recurrent_baseline",
    "role_of",
    "same_tokens",
    "wire",
]
