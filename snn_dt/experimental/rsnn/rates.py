r"""Firing rates as what a spiking network says: how they are read, what is lost by a wrong one.

T steps, B samples, O output neurons, one per class. Spikes [T, B, O], rates [B, O] in [0, 1], targets [B] int64.

Rates span no more than [0, 1], so `p = softmax(r / T)` cannot say more than `1 / (1 + (O - 1) e^(-1/T))`: .73 for two
classes at T = 1. Hence a temperature near 0.1.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_dt.snn.filters import leaky_sum

TEMPERATURE = 0.1
MARGIN = 0.05


def mean_rate(spikes: Tensor, window: int | None = None) -> Tensor:
    """Return the mean of the last `window` steps, `[T, ...] -> [...]`; None takes all.

    Raises:
        ValueError: the window is empty, or longer than the train.
    """
    steps = len(spikes) if window is None else window
    if not 1 <= steps <= len(spikes):
        raise ValueError(f"window: expected 1 to {len(spikes)} steps; found {window!r}")
    return spikes[len(spikes) - steps :].mean(0)


def running_rate(spikes: Tensor, alpha: float) -> Tensor:
    """Return the rate of every step, `[T, ...] -> [T, ...]`, an exponential mean from the first spike on.

    ```
    m_t = (1 - alpha) m_(t-1) + alpha s_t,    r_t = m_t / (1 - (1 - alpha)^t),    t = 1, 2, ...
    ```

    Without the division, which takes out that m starts at 0, a rate would be too low for the first 1/alpha steps.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha: expected in (0, 1]; found {alpha!r}")
    steps = torch.arange(1, len(spikes) + 1, dtype=spikes.dtype, device=spikes.device)
    seen = 1 - (1 - alpha) ** steps
    return leaky_sum(spikes, 1 - alpha) * (alpha / seen).view(-1, *[1] * (spikes.dim() - 1))


def rate_cross_entropy(rates: Tensor, targets: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Return `-log p_y`, `p = softmax(r / T)`, as a mean over samples; `dL/dr = (p - y) / T` of each."""
    return F.cross_entropy(rates / temperature, targets)


def margins(rates: Tensor, targets: Tensor) -> Tensor:
    """Return `m = r_y - max_(k != y) r_k` of each sample `[B]`: above 0 where the right class is the most active."""
    right = F.one_hot(targets, rates.shape[-1]).bool()
    return rates[right] - rates.masked_fill(right, -torch.inf).amax(-1)


def margin_hinge(rates: Tensor, targets: Tensor, margin: float = MARGIN) -> Tensor:
    """Return `max(0, margin - m)` as a mean over samples: where it is above 0, -1 to y and +1 to the runner-up.

    Runners-up that are level share their +1.
    """
    return (margin - margins(rates, targets)).clamp_min(0).mean()
