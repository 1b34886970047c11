"""Losses. Each returns a scalar and a flat dict of detached scalars for the log.

B windows, K steps, A action dimensions or number of discrete actions. `model.loss` names an entry of `LOSSES`.
Training, validation, fine-tuning and analysis all call `loss_of`, so a registered loss applies to all of them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.data.windows import Batch
from snn_dt.learning.composite_loss import composite_loss
from snn_dt.registry import LOSSES, register_loss

Metrics = dict[str, Tensor]


def loss_of(model: nn.Module, batch: Batch, predictions: Tensor) -> tuple[Tensor, Metrics]:
    """Return the loss of `predictions [B, K, A]` that the config of `model` names, and its metrics."""
    name = getattr(getattr(model, "config", None), "loss", "action")
    found: tuple[Tensor, Metrics] = LOSSES[name](model, batch, predictions.float())
    return found


def action_loss(
    predictions: Tensor, actions: Tensor, attention_mask: Tensor, half_range: Tensor | None = None
) -> tuple[Tensor, Metrics]:
    """Return the mean loss over valid steps: cross-entropy (discrete actions) or squared error (continuous actions).

    Args:
        predictions: `[B, K, A]`, logits or actions.
        actions: logged actions, `[B, K]` int64 or `[B, K, A]`.
        attention_mask: `[B, K]` bool. Pads do not count.
        half_range: half the width of the bounds of each action dimension `[A]`. Errors are divided by it, so all
            dimensions have the same weight. A 0 counts as 1. None keeps environment units.

    Returns:
        The loss and its detached metrics: `loss`, and `accuracy` (discrete) or `action_error` (RMS in half-ranges).
    """
    valid = attention_mask.sum()
    if actions.dim() == 2:
        # Logits [B, K, A] -> [B K, A], actions [B, K] -> [B K], and the losses back to [B, K].
        losses = F.cross_entropy(predictions.flatten(0, 1), actions.flatten(), reduction="none").view_as(actions)
        loss = losses.masked_fill(~attention_mask, 0).sum() / valid
        # [B, K]
        hits = (predictions.argmax(-1) == actions) & attention_mask
        return loss, {"loss": loss.detach(), "accuracy": hits.sum() / valid}
    error = predictions - actions
    if half_range is not None:
        error = error / positive_range(half_range)
    # Squared errors [B, K, A] -> [B, K]; pads are masked before the sum.
    loss = error.square().mean(-1).masked_fill(~attention_mask, 0).sum() / valid
    return loss, {"loss": loss.detach(), "action_error": loss.detach().sqrt()}


def positive_range(half_range: Tensor) -> Tensor:
    """Return half widths of bounds as divisors. A 0, the width of a constant action, becomes 1."""
    return half_range.where(half_range > 0, 1.0)


def action_half_range(model: nn.Module) -> Tensor | None:
    """Return half the width of the bounds of each action dimension `[A]`; None without bounds.

    A width of 0 counts as 1. Such an action is a constant, which the head predicts exactly.
    """
    head: Any = getattr(model, "head", None)
    return positive_range((head.high - head.low) / 2) if getattr(head, "bounded", False) else None


def _action(model: nn.Module, batch: Batch, predictions: Tensor) -> tuple[Tensor, Metrics]:
    codes = getattr(getattr(model, "task", None), "action_parts", None)
    if codes is not None:
        half_range = action_half_range(model)
        return composite_loss(predictions, batch.actions, batch.attention_mask, codes, half_range)
    return action_loss(predictions, batch.actions, batch.attention_mask, action_half_range(model))


def _likelihood(model: nn.Module, batch: Batch, predictions: Tensor) -> tuple[Tensor, Metrics]:
    """Return the loss of a Gaussian with a learned deviation: the mean of `e^2 / (2 sigma^2) + log sigma`.

    e is the error in half-ranges; the mean is over valid steps and action dimensions. sigma comes from the model's
    `spread` and exists in training only. In evaluation, and for other actions, the loss is that of `action`.
    """
    spread: Any = getattr(model, "spread", None)
    log_sigma = None if spread is None else spread.take()
    loss, metrics = _action(model, batch, predictions)
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


register_loss("action", _action)
register_loss("likelihood", _likelihood)
