r"""Firing rates as the output of a spiking network, and losses on them.

Shapes: T steps; B samples; O output neurons (one per class). Spikes are [T, B, O]. Rates are [B, O] in [0, 1]. Targets
are [B] int64.

The largest probability of `softmax(r / temperature)` is `1 / (1 + (O - 1) e^(-1/temperature))`, because rates are at
most 1. This is 0.73 for two classes at a temperature of 1. The default is therefore 0.1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_dt.experimental.leaky_sum import leaky_sum

TEMPERATURE = 0.1
MARGIN = 0.05


def mean_rate(spikes: Tensor, window: int | None = None) -> Tensor:
    """Return the mean over the last `window` steps. [T, ...] -> [...]. None takes all steps.

    Raises:
        ValueError: the window is empty or longer than T.
    """
    steps = len(spikes) if window is None else window
    if not 1 <= steps <= len(spikes):
        raise ValueError(f"window: expected 1 to {len(spikes)} steps; found {window!r}")
    return spikes[len(spikes) - steps :].mean(0)  # [steps, ...] -> [...]


def running_rate(spikes: Tensor, alpha: float) -> Tensor:
    """Return the exponential mean of the spikes at every step. [T, ...] -> [T, ...].

    ```
    m_t = (1 - alpha) m_(t-1) + alpha s_t,    r_t = m_t / (1 - (1 - alpha)^t),    t = 1, 2, ...
    ```

    The division corrects the start of m at 0. Without it the rate is too low for the first 1/alpha steps.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha: expected in (0, 1]; found {alpha!r}")
    steps = torch.arange(1, len(spikes) + 1, dtype=spikes.dtype, device=spikes.device)
    correction = 1 - (1 - alpha) ** steps
    return leaky_sum(spikes, 1 - alpha) * (alpha / correction).view(-1, *[1] * (spikes.dim() - 1))  # [T, 1, ...]


def rate_cross_entropy(rates: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return the mean of `-log p_y` over samples for p = softmax(r / temperature). `dL/dr = (p - y) / temperature`."""
    return F.cross_entropy(rates / temperature, targets)


def margins(rates: Tensor, targets: Tensor) -> Tensor:
    """Return `m = r_y - max_(k != y) r_k` of each sample [B]; above 0 where the right class is the most active."""
    right = F.one_hot(targets, rates.shape[-1]).bool()  # [B, O]
    return rates[right] - rates.masked_fill(right, -torch.inf).amax(-1)  # the right class is excluded from the maximum


def margin_hinge(rates: Tensor, targets: Tensor, margin: float = MARGIN) -> Tensor:
    """Return the mean of `max(0, margin - m)` over samples.

    Above 0 its gradient is -1 by r_y and +1 by the highest other rate. Equal highest rates share it.
    """
    return (margin - margins(rates, targets)).clamp_min(0).mean()
