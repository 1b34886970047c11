"""Penalties on activity and connections. They are added to the loss.

Shapes: T steps; B samples; N neurons. Spikes are [T, B, N]. Rates are in spikes per step and neuron.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN


@dataclass(frozen=True)
class PenaltyConfig:
    """Weights of the terms added to the loss; r_j is the mean rate of neuron j over steps and samples."""

    rate: float = 0.0
    """Weight of `sum_j r_j`."""
    target: float = 0.0
    """Weight of `1/2 sum_j (r_j - rate_target)^2`: firing-rate regularisation."""
    rate_target: float = 0.01
    """Target rate of `target`, spikes per step; 0.01 is 10 Hz."""
    above: float = 0.0
    """Weight of `sum_j max(0, r_j - rate_max)^2`."""
    rate_max: float = 0.1
    """Rate above which `above` acts. In spikes per step."""
    below: float = 0.0
    """Weight of `sum_j max(0, rate_min - r_j)^2`, which reactivates silent neurons."""
    rate_min: float = 0.001
    """Rate below which `below` acts. In spikes per step."""
    operations: float = 0.0
    """Weight of the accumulates of the hidden spikes: `sum_t,j fan_out_j z_t,j`, mean over samples."""
    weights: float = 0.0
    """Weight of `sum |w|` over the existing connections."""


def penalty(config: PenaltyConfig, network: RecurrentSNN, spikes: Tensor) -> Tensor:
    """Return the weighted sum of all terms. It is a scalar with a gradient by `spikes` and the weights."""
    rates, total = spikes.mean((0, 1)), spikes.new_zeros(())  # rates [N]
    terms: dict[str, Callable[[], Tensor]] = {  # evaluated only where their weight is not 0
        "rate": lambda: rates.sum(),
        "target": lambda: 0.5 * (rates - config.rate_target).square().sum(),
        "above": lambda: (rates - config.rate_max).clamp_min(0).square().sum(),
        "below": lambda: (config.rate_min - rates).clamp_min(0).square().sum(),
        "operations": lambda: (spikes * network.fan_out).sum() / spikes.shape[1],
        "weights": lambda: torch.stack([part().abs().sum() for part in network.synapses.values()]).sum(),
    }
    for name, term in terms.items():
        if weight := getattr(config, name):
            total = total + weight * term()
    return total
