"""Training batches for a model with state: each window continues that of the previous batch.

Shapes as in `snn_dt.data.windows`: `B` streams (batch rows); `K` steps of a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.hindsight import OWN
from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import Batch, WindowSampler


class EpisodeStreams(WindowSampler):
    """Reads B episodes side by side, window by window, each from its beginning to its end.

    Each batch row is a stream. It reads a random permutation of the episodes, one after another, then another
    permutation. It starts at a random position in the first one, so a batch holds early and late steps of episodes.

    An episode is cut into windows of K steps, counted from its end. So its first window may be shorter, with padding on
    the left. A window with `timesteps[:, 0] == 0` begins an episode; any other continues the previous window of its
    stream. Return-to-go augmentation increases all returns-to-go of an episode by one amount. A relabelled episode
    desires the goal that it achieved at its last step.

    The arguments are those of `WindowSampler`.
    """

    def __init__(self, trajectories: Trajectories, context_length: int, **options: Any) -> None:
        super().__init__(trajectories, context_length, **options)
        self._context_length = context_length
        self._episodes = np.arange(trajectories.n_episodes) if self._chosen is None else self._chosen
        self._n_windows = len(self._window_ends(self._episodes))
        # The current permutation of each (seed, stream): epoch; by window its last step, the increase of its rtg, and
        # the step whose goal it desires.
        self._orders: dict[tuple[int, int], tuple[int, tuple[NDArray[Any], ...]]] = {}

    def batch_rows(self, seed: int, step: int, batch_size: int, rows: slice) -> Batch:
        """Return the windows of the streams `rows` at training step `step`."""
        windows = (self._window(seed, stream, step) for stream in range(rows.start, rows.stop))
        return self.at(*map(np.array, zip(*windows, strict=True)))

    def _window(self, seed: int, stream: int, step: int) -> tuple[Any, ...]:
        """Return (flat index of the last step, increase of the returns-to-go, step of the desired goal) of a window."""
        epoch, position = divmod(self._start(seed, stream) + step, self._n_windows)
        order = self._orders.get((seed, stream))
        if order is None or order[0] != epoch:
            generator = _generator(seed, stream, 1 + epoch)
            episodes = generator.permutation(self._episodes)
            increases = self._rtg_increases(generator, len(episodes))
            desired = np.full(len(episodes), OWN)
            if self._hindsight is not None:
                desired = self._hindsight.draw_last(generator, episodes)
            counts = self._n_windows_of(episodes)
            by_window = self._window_ends(episodes), np.repeat(increases, counts), np.repeat(desired, counts)
            self._orders[seed, stream] = order = epoch, by_window
        return tuple(column[position] for column in order[1])

    def _start(self, seed: int, stream: int) -> int:
        """Return the position in its permutation at which a stream starts."""
        return int(_generator(seed, stream, 0).integers(self._n_windows))

    def _n_windows_of(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of windows of each episode: its length / K rounded up."""
        counts: NDArray[np.int64] = -(-np.diff(self._offsets)[episodes] // self._context_length)
        return counts

    def _window_ends(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the flat indices of the last steps of all windows of the episodes, one episode after another."""
        counts = self._n_windows_of(episodes)
        later = np.repeat(counts.cumsum(), counts) - np.arange(counts.sum()) - 1  # later windows of the same episode
        ends: NDArray[np.int64] = np.repeat(self._offsets[episodes + 1], counts) - 1 - later * self._context_length
        return ends


def _generator(seed: int, stream: int, use: int) -> np.random.Generator:
    # `use`: 0 for the start of the stream, 1 + epoch for its permutations.
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, stream, use]))


Lanes = EpisodeStreams  # its name in 0.1.0
