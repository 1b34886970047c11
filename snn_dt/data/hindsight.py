"""Desired goals in observations, and hindsight relabelling: a goal that was reached later counts as the desired one.

A Dict with the keys `observation`, `achieved_goal` and `desired_goal`, as Gymnasium's goal environments emit it.

Shapes: `B` windows; `K` steps of a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from snn_dt.data.images import find_image

OWN = -1
"""Marks a window that keeps the desired goal of its episode."""


def goal_columns(space: Any) -> tuple[slice, slice] | None:
    """Return the columns of the (achieved, desired) goal in rows of a space; None if it has not both, of one size.

    With an image it has none: its rows are bytes.
    """
    names = ("achieved_goal", "desired_goal")
    if not isinstance(space, spaces.Dict) or not set(names) <= set(space.spaces) or find_image(space):
        return None
    ends = np.cumsum([spaces.flatdim(part) for part in space.spaces.values()])
    after = dict(zip(space.spaces, ends.tolist(), strict=True))
    achieved, desired = (slice(after[name] - spaces.flatdim(space[name]), after[name]) for name in names)
    same = achieved.stop - achieved.start == desired.stop - desired.start
    return (achieved, desired) if same else None


class Hindsight:
    """Replaces the desired goal of a share of the windows by a goal that their episode achieved later.

    The step of that goal is uniform over the steps after the window, as "future" of Andrychowicz et al. 2017
    (arXiv 1707.01495). A window that ends an episode keeps its goal. Returns are left alone: they belong to the goal of
    the episode, so a policy that reads them must not be trained on such windows.

    Args:
        columns: of the achieved and the desired goal, see `goal_columns`.
        share: probability of a window to get another goal.
        offsets: `Trajectories.episode_offsets`.
    """

    def __init__(self, columns: tuple[slice, slice], share: float, offsets: NDArray[np.int64]) -> None:
        self._achieved, self._desired = columns
        self._share, self._offsets = share, offsets

    def draw(self, generator: np.random.Generator, ends: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the steps [B] whose achieved goals windows with the last steps `ends` [B] desire, or `OWN`."""
        chosen, place = generator.random((2, len(ends)))
        later = self._offsets[np.searchsorted(self._offsets, ends, side="right")] - 1 - ends  # steps after the window
        steps: NDArray[np.int64] = np.where(
            (chosen < self._share) & (later > 0), ends + 1 + (place * later).astype(np.int64), OWN
        )
        return steps

    def draw_last(self, generator: np.random.Generator, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the last step of whole `episodes` [E], whose windows share one goal, or `OWN`."""
        chosen = generator.random(len(episodes)) < self._share
        steps: NDArray[np.int64] = np.where(chosen, self._offsets[episodes + 1] - 1, OWN)
        return steps

    def apply(self, states: NDArray[Any], steps: NDArray[np.int64], observations: NDArray[Any]) -> None:
        """Write the goals of `draw` into raw `states` [B, K, obs_dim] of windows."""
        rows = np.flatnonzero(steps != OWN)
        states[rows, :, self._desired] = observations[steps[rows], self._achieved][:, None]  # [rows, 1, goal size]
