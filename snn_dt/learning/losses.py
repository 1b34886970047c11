"""What training minimises. A loss returns a scalar and a flat dict of floats for the log."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def action_loss(
    predictions: Tensor, actions: Tensor, attention_mask: Tensor, half_range: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean loss over real steps: cross-entropy of discrete actions, squared error of continuous ones.

    Args:
        predictions: `[B, K, A]`, logits or actions.
        actions: logged actions, `[B, K]` int64 or `[B, K, A]`.
        attention_mask: `[B, K]` bool; pads never count.
        half_range: half the width of each action's bounds `[A]`; errors are measured in it, so that every dimension
            weighs the same; one that is 0 counts as 1. None leaves environment units.

    Returns:
        The loss, and `loss` with `accuracy` (discrete) or `action_error` (root mean square, in half-ranges), detached.
    """
    valid = attention_mask.sum()
    if actions.dim() == 2:
        losses = F.cross_entropy(predictions.flatten(0, 1), actions.flatten(), reduction="none").view_as(actions)
        loss = losses.masked_fill(~attention_mask, 0).sum() / valid
        hits = (predictions.argmax(-1) == actions) & attention_mask
        return loss, {"loss": loss.detach(), "accuracy": hits.sum() / valid}
    error = predictions - actions
    if half_range is not None:
        error = error / positive_range(half_range)
    loss = error.square().mean(-1).masked_fill(~attention_mask, 0).sum() / valid
    return loss, {"loss": loss.detach(), "action_error": loss.detach().sqrt()}


def positive_range(half_range: Tensor) -> Tensor:
    """Return half widths of bounds to divide by: 1 where they are 0, as of an action that is a constant."""
    return half_range.where(half_range > 0, 1.0)
