"""The likelihood loss: a Gaussian with a learned deviation of each action.

B windows, K steps, A action dimensions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from snn_dt.data.windows import Batch
from snn_dt.learning.losses import Metrics, action_half_range
from snn_dt.registry import LOSSES, register_loss


def _likelihood(model: nn.Module, batch: Batch, predictions: Tensor) -> tuple[Tensor, Metrics]:
    """Return the mean of `e^2 / (2 sigma^2) + log sigma` over valid steps and action dimensions, e in half-ranges.

    sigma comes from the model's `spread` and exists in training only. In evaluation, and for other actions, the loss
    is that of `action`.
    """
    spread: Any = getattr(model, "spread", None)
    log_sigma = None if spread is None else spread.take()
    loss, metrics = LOSSES["action"](model, batch, predictions)
    if log_sigma is None:
        return loss, metrics
    half_range = action_half_range(model)
    error = (predictions - batch.actions) / (1.0 if half_range is None else half_range)
    # The windows of the batch come first where the model has predicted others too: [B, K, A].
    log_sigma = log_sigma[: len(error)].float()
    losses = (error * (-log_sigma).exp()).square() / 2 + log_sigma
    # Losses [B, K, A] -> [B, K]; pads are masked before the sum.
    loss = losses.mean(-1).masked_fill(~batch.attention_mask, 0).sum() / batch.attention_mask.sum()
    return loss, metrics | {"loss": loss.detach()}


register_loss("likelihood", _likelihood)
