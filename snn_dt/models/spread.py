"""Deviation of the actions, which the likelihood loss learns beside them; training only."""

from __future__ import annotations

import math

from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.interface import TaskShape

LEAST_SPREAD = 0.03
"""Least standard deviation of an action under the likelihood loss, in half-ranges of its bounds."""


class ActionSpread(nn.Linear):
    """Logarithm of the standard deviation of each action dimension, for the likelihood loss. Acting does not need it.

    `log sigma = clamp(W h + b, log 0.03, 1)` in half-ranges. Without the lower bound a deterministic behaviour would
    have an infinite likelihood. A forward pass in training leaves the values for the loss, which takes them.
    """

    def __init__(self, d_model: int, action_dim: int) -> None:
        super().__init__(d_model, action_dim)
        self._latest: Tensor | None = None

    def note(self, h: Tensor) -> None:
        """Keep `log sigma [B, K, A]` of `h [B, K, D]` for the loss, in training only."""
        self._latest = self(h).clamp(math.log(LEAST_SPREAD), 1.0) if self.training else None

    def take(self) -> Tensor | None:
        """Return the latest `log sigma` once; None if there is none."""
        latest, self._latest = self._latest, None
        return latest


def build_spread(config: ModelConfig, task: TaskShape) -> ActionSpread | None:
    """Return the spread of the actions of a Box for `model.loss: likelihood`, else None."""
    if config.loss != "likelihood" or task.discrete or task.action_parts is not None:
        return None
    return ActionSpread(config.d_model, task.action_dim)
