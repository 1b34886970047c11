"""Warnings about a dataset, which are counted while it is read.

Shapes: `T` steps; `A` action columns. Choices and bits among them are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.checks import absurd, bounds, one_line
from snn_dt.data.columns import RunningMoments
from snn_dt.data.encoding import flat_box, number_columns, parts
from snn_dt.data.normalisation import needs_float64
from snn_dt.data.source import Episode, Source


class Survey:
    """Counts possible faults episode by episode; `notes` returns them as text."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._n = self._steps = self._unmarked = self._long = self._longest = self._outside = 0
        self._numbers = number_columns(parts(source.action_space))  # [A]
        self._integral = bool(self._numbers.any())
        self._beyond = 0.0
        self._dtype: np.dtype[Any] | None = None  # of the actions; None for choices
        self._actions = RunningMoments()

    def add(self, episode: Episode) -> None:
        """Add a checked episode, before conversion."""
        source, n = self._source, len(episode.rewards)
        self._n, self._steps = self._n + 1, self._steps + n
        # A flag of the last step is missing, so it is unknown how the episode ended.
        self._unmarked += not (episode.terminated or episode.truncated)
        if source.time_limit is not None and n > source.time_limit:
            self._long, self._longest = self._long + 1, max(self._longest, n)
        if not self._numbers.any():
            return
        values = np.asarray(episode.actions).reshape(n, -1)[:, self._numbers]  # [T, ...] -> [T, A] -> its numbers
        self._dtype = values.dtype
        self._actions.update(values)
        self._integral = self._integral and bool((values == np.floor(values)).all())
        if source.clip_actions:
            low, high, slack = self._bounds()
            # [T], the largest excess of each action over its bounds.
            beyond = np.maximum(low - slack - values, values - high - slack).max(axis=1)
            self._outside += int((beyond > 0).sum())
            self._beyond = max(self._beyond, float(beyond.max()))

    def _bounds(self) -> tuple[NDArray[np.float64], ...]:
        """Return (low, high, tolerance) of the columns that are numbers."""
        return tuple(bound[self._numbers] for bound in bounds(flat_box(self._source.action_space)))

    def notes(self) -> list[str]:
        """Return the warnings, one line each."""
        source, found = self._source, []
        if source.n_steps is not None and source.n_steps != self._steps:
            found.append(
                f"metadata.json says total_steps {source.n_steps:,}, the episodes have {self._steps:,}: is the copy "
                "whole?"
            )
        if self._unmarked:
            found.append(
                f"{self._unmarked} of {self._n} episodes end without a termination or truncation: taken as cut off "
                "there"
            )
        if self._long:
            found.append(
                f"{self._long} of {self._n} episodes are longer than the step limit of {source.time_limit} of the "
                f"environment, the longest {self._longest}: are they several, or was there no limit?"
            )
        return found + (self._action_notes() if self._dtype is not None else [])

    def _action_notes(self) -> list[str]:
        space: Any = self._source.action_space
        found, low, high = [], *self._bounds()[:2]
        varies, kind = self._actions.std > 0, self._dtype.kind if self._dtype else ""
        # A constant column of floats is not evidence for choices.
        if self._integral and (kind in "biu" or varies.any()):
            found.append(
                f"all actions are whole numbers ({self._dtype}) and are learned as continuous ones: if they are "
                "choices, the action space must be Discrete"
            )
        if self._outside:
            found.append(
                f"{self._outside:,} of {self._steps:,} actions are outside the bounds {one_line(space)}, by up to "
                f"{self._beyond:.3g}, and were clipped to them"
            )
        if (fixed := low == high).any():
            found.append(f"action column {int(fixed.argmax())} has bounds of zero width: it is a constant")
        if (wide := absurd(low, high, self._actions.size)).any():
            column = int(wide.argmax())
            found.append(
                f"action column {column} has bounds of {low[column]:.3g} to {high[column]:.3g} beside actions of up to "
                f"{self._actions.size[column]:.3g}: the bounds of the actions are not used, as if there were none"
            )
        if (lost := needs_float64(self._actions)).any():
            column = int(lost.argmax())
            found.append(
                f"actions are learned in float32, which cannot hold the spread of {self._actions.std[column]:.3g} of "
                f"column {column} beside values of {self._actions.size[column]:.3g}: record them less their mean"
            )
        return found
