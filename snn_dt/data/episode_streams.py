"""Training batches for a model with state: windows that go on where the batch before ended.

Shapes: `B` lanes, `K` steps of a window, as in `snn_dt.data.windows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import Batch, Windows


class EpisodeStreams(Windows):
    """Reads B episodes side by side, window by window, each from its beginning to its end.

    A lane is one episode after the other in an order of its own, each once before any comes again, and begins
    somewhere in that order, so that an update sees steps of all ages. An episode is cut into windows of K steps from
    its end on: the first may be shorter, and has pads on the left like any other window. Where `timesteps[:, 0]` is 0
    an episode begins; elsewhere a window goes on where the same lane's window of the update before ended. Raised
    returns-to-go are so for all of an episode.

    Arguments and attributes are those of `Windows`.
    """

    def __init__(self, trajectories: Trajectories, context_length: int, **options: Any) -> None:
        super().__init__(trajectories, context_length, **options)
        self._context_length = context_length
        self._episodes = np.arange(trajectories.n_episodes) if self._chosen is None else self._chosen
        self._n_windows = len(self._ends(self._episodes))
        self._orders: dict[tuple[int, int], tuple[int, NDArray[np.int64], NDArray[np.float32]]] = {}

    def rows(self, seed: int, step: int, batch_size: int, own: slice) -> Batch:
        """Return the lanes `own` at training step `step`."""
        ends, raises = zip(*(self._window(seed, lane, step) for lane in range(own.start, own.stop)), strict=True)
        return self.at(np.array(ends, np.int64), np.array(raises, np.float32))

    def _window(self, seed: int, lane: int, step: int) -> tuple[int, float]:
        """Return the flat index of the last step of a lane's window, and what its returns-to-go are raised by."""
        epoch, position = divmod(self._begin(seed, lane) + step, self._n_windows)
        known = self._orders.get((seed, lane))
        if known is None or known[0] != epoch:
            generator = _generator(seed, lane, 1 + epoch)
            order = generator.permutation(self._episodes)
            raises = np.repeat(self._raises(generator, len(order)), self._counts(order))
            self._orders[seed, lane] = known = epoch, self._ends(order), raises
        return int(known[1][position]), float(known[2][position])

    def _begin(self, seed: int, lane: int) -> int:
        """Return where in its order of windows a lane begins."""
        return int(_generator(seed, lane, 0).integers(self._n_windows))

    def _counts(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many windows some episodes are cut into."""
        counts: NDArray[np.int64] = -(-np.diff(self._offsets)[episodes] // self._context_length)
        return counts

    def _ends(self, episodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the flat indices of the last steps of the windows of some episodes, one episode after the other."""
        counts = self._counts(episodes)
        later = np.repeat(counts.cumsum(), counts) - np.arange(counts.sum()) - 1  # windows of the episode yet to come
        ends: NDArray[np.int64] = np.repeat(self._offsets[episodes + 1], counts) - 1 - later * self._context_length
        return ends


def _generator(seed: int, lane: int, use: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, lane, use]))
