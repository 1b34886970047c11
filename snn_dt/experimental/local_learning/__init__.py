"""Local learning rules of the Decision Transformer: e-prop in its blocks, three-factor plasticity of its action head.

| file | contents |
|---|---|
| `eprop_blocks.py` | `train.rule: eprop` |
| `three_factor.py` | eligibility traces and their sum over a window |
| `plasticity.py` | `train.plasticity`: next to the optimizer |
| `online_plasticity.py` | `Policy.adapt`: while the policy acts |
"""

from snn_dt.experimental.local_learning.eprop_blocks import use_eprop as use_eprop
from snn_dt.experimental.local_learning.online_plasticity import OnlinePlasticity as OnlinePlasticity
from snn_dt.experimental.local_learning.plasticity import TrainingPlasticity as TrainingPlasticity
