"""LIF over time: where a path through the recurrence is chosen.

Shapes: `current` [T, ...], `v0` [...], spikes [T, ...]; for `lif_rate`, `current` and the rate [...].
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.snn.parameters import LIFParameters
from snn_dt.snn.reference import rate_reference, scan_reference


def lif_scan(current: Tensor, v0: Tensor | None, params: LIFParameters) -> tuple[Tensor, Tensor]:
    """Return spikes [T, ...] and the membrane after the last reset [...]; `v0=None` starts at rest."""
    if v0 is None:
        v0 = torch.full_like(current[0], params.v_rest)
    return scan_reference(current, v0, params)


def lif_rate(current: Tensor, sim_steps: int, params: LIFParameters) -> Tensor:
    """Return the mean spike over `sim_steps` steps of the constant `current`, from rest."""
    return rate_reference(current, sim_steps, params)
