"""What activity and connections cost, beside the loss, so that a network may be sparing with them.

T steps, B samples, P inputs, N neurons. Spikes `[T, B, N]`; rates are spikes per step and neuron, in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN


@dataclass(frozen=True)
class PenaltyConfig:
    """Terms added to the loss; r_j is the mean rate of neuron j over steps and samples."""

    rate: float = 0.0
    """Of `sum_j r_j`."""
    target: float = 0.0
    """Of `1/2 sum_j (r_j - rate_target)^2`: firing-rate regularisation."""
    rate_target: float = 0.01
    """Rate that it holds neurons to, in spikes per step: 0.01 is 10 Hz."""
    above: float = 0.0
    """Of `sum_j max(0, r_j - rate_max)^2`."""
    rate_max: float = 0.1
    """Rate above which it acts."""
    below: float = 0.0
    """Of `sum_j max(0, rate_min - r_j)^2`, which wakes dead neurons."""
    rate_min: float = 0.001
    """Rate below which it acts."""
    operations: float = 0.0
    """Of the accumulates that a sample's hidden spikes cost: `sum_t,j fan_out_j z_j`, mean over samples."""
    weights: float = 0.0
    """Of `sum |w|` over the connections that exist."""


def penalty(config: PenaltyConfig, network: RecurrentSNN, spikes: Tensor) -> Tensor:
    """Return the sum of all terms of `config`, a scalar whose gradient goes through `spikes` and the weights."""
    rates, total = spikes.mean((0, 1)), spikes.new_zeros(())
    terms = {
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
