"""Schedules of the surrogate's slope k. The slope affects gradients only. No schedule changes a forward pass.

A schedule returns the slope of an update with `slope(step)` and receives each evaluation with `observe(score)`. It
stores its state with `state_dict()` and `load_state_dict(...)`, so a resumed run continues exactly.

Source: fixed, interval and adaptive slopes of Van den Berghe et al. 2025 (arXiv 2510.24461). The paper gives no formula
for its interval schedule; the shapes are ours.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from snn_dt.config import Config

Rows = Sequence[dict[str, Any]]
Shape = Literal["linear", "cubic", "geometric"]
BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")


class SlopeSchedule:
    """A schedule, which the training loop asks and tells. This base keeps the slope constant."""

    def __init__(self, first: float) -> None:
        self.first = first

    def slope(self, step: int) -> float:
        """Return k of update `step`, counted from 0."""
        return self.first

    def observe(self, score: float) -> None:
        """Receive the score of an evaluation."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values. It is empty where the step determines the slope."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""


class Interval(SlopeSchedule):
    """Slope from k0 to k1 in `count` stages of `every` updates. The first change is after `start + every` updates.

    ```
    u = clip(floor((step - start) / every) / count, 0, 1)
    k = k0 + (k1 - k0) u   linear        k0 + (k1 - k0) u^3   cubic        k0 (k1 / k0)^u   geometric
    ```
    """

    def __init__(self, first: float, last: float, every: int, count: int, shape: Shape, start: int = 0) -> None:
        super().__init__(first)
        self.last, self.every, self.count, self.shape, self.start = last, every, count, shape, start

    def slope(self, step: int) -> float:
        """Return k of update `step`."""
        # Whole stages passed, as a fraction of `count`.
        u = min(max((step - self.start) // self.every / self.count, 0.0), 1.0)
        if self.shape == "geometric":
            return self.first * (self.last / self.first) ** u
        return self.first + (self.last - self.first) * (u if self.shape == "linear" else u**3)


class Adaptive(SlopeSchedule):
    """A slope that follows the score r of the last `window` evaluations and its first difference r'.

    ```
    k = clip(gain mean(reward_weight r + difference_weight r'), low, high)
    ```

    With the defaults this is Eq. 7 of the paper, where r is the return in environment units. The first score has a
    difference of 0. Before `window` scores the mean is over the scores so far. Scores that are not finite are ignored.
    With `falling` the scores are losses and r is 1 - loss / first loss.
    """

    def __init__(
        self,
        first: float,
        gain: float = 1.0,
        low: float = 1.0,
        high: float = 100.0,
        window: int = 10,
        reward_weight: float = 0.5,
        difference_weight: float = 0.5,
        falling: bool = False,
    ) -> None:
        super().__init__(first)
        self.gain, self.low, self.high = gain, low, high
        self.reward_weight, self.difference_weight, self.falling = reward_weight, difference_weight, falling
        self.first_score: float | None = None
        self.last_score: float | None = None
        self.terms: deque[float] = deque(maxlen=window)

    def slope(self, step: int) -> float:
        """Return k from the scores so far; before the first score the initial slope."""
        if not self.terms:
            return self.first
        return min(max(self.gain * math.fsum(self.terms) / len(self.terms), self.low), self.high)

    def observe(self, score: float) -> None:
        """Add the score of an evaluation."""
        if not math.isfinite(score):
            return
        if self.falling:
            self.first_score = score if self.first_score is None else self.first_score
            # Grows from 0 to 1 as the loss falls, as a return does.
            score = 1.0 - score / self.first_score
        difference = 0.0 if self.last_score is None else score - self.last_score
        self.terms.append(self.reward_weight * score + self.difference_weight * difference)
        self.last_score = score

    def state_dict(self) -> dict[str, Any]:
        """Return the first score, the last score and the terms of the mean."""
        return {"first_score": self.first_score, "last_score": self.last_score, "terms": list(self.terms)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.first_score, self.last_score = state["first_score"], state["last_score"]
        self.terms = deque(state["terms"], self.terms.maxlen)


def make_schedule(config: Config) -> SlopeSchedule | None:
    """Build the schedule of `train.slope_schedule`, starting at `model.surrogate_slope`; None if the slope is fixed.

    Adaptive with the score `return` is Eq. 7. With the other scores a constant 1 gives the highest slope.
    """
    s, first = config.train.slope_schedule, config.model.resolved().surrogate_slope
    assert first is not None
    if s.kind == "fixed":
        return SlopeSchedule(first) if s.layers else None
    if s.kind == "adaptive":
        # A constant score of 1 has the mean term 0.5, so this gain gives the slope `last`.
        gain = 1.0 if s.score == "return" else 2.0 * s.last
        return Adaptive(first, gain, high=s.last, falling=s.score == "loss")
    return Interval(first, s.last, max(1, config.train.steps // (s.stages + 1)), s.stages, s.kind)


def score_of(kind: str, rows: Rows | None, loss: float | None) -> float:
    """Return the score `kind` of an evaluation at its first target return; nan if it has none."""
    found = loss if kind == "loss" else None
    if rows and kind != "loss":
        found = rows[0]["return_mean" if kind == "return" else "normalized_score"]
    return math.nan if found is None else found / 100 if kind == "normalized" else found


def set_slope(model: nn.Module, slope: float, factors: Sequence[float] = ()) -> None:
    """Set the slope of every spike function of `model`, times `factors[i]` in block i if given."""
    for name, module in model.named_modules():
        if hasattr(module, "surrogate_slope"):
            # The dot lets the pattern match the block itself, too.
            block = BLOCK.search(f"{name}.")
            module.surrogate_slope = slope * (factors[int(block.group(1))] if factors and block else 1.0)
