"""Training batches of which a share is drawn from the best episodes."""

from __future__ import annotations

from snn_dt.data.windows import Batch, Windows, join, share

BEST = 0.1
"""Share of the steps that the best episodes hold."""

OTHER_SEED = 2**32
"""Added to the seed of the second part: seeds are below it, so that its draws are its own."""


class OversampledWindows:
    """Batches whose last rows, `of_best` of all, are windows (or lanes) of `best`, the rest of `every`.

    A return-conditioned model learns which action follows from a state and a return-to-go. How often an episode is
    drawn may depend on its return without changing that: what the best did is a tenth of the steps or less, and is
    seen too seldom to be imitated well.
    """

    def __init__(self, every: Windows, best: Windows, of_best: float) -> None:
        self._every, self._best, self._of_best = every, best, of_best

    def batch(self, seed: int, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this rank's slice of the batch of training step `step`, a pure function of its arguments."""
        own, n_best = share(batch_size, rank, world_size), round(self._of_best * batch_size)
        n_every = batch_size - n_best
        parts = []
        if own.start < n_every:
            parts.append(self._every.rows(seed, step, n_every, slice(own.start, min(own.stop, n_every))))
        if own.stop > n_every:
            rows = slice(max(own.start - n_every, 0), own.stop - n_every)
            parts.append(self._best.rows(seed + OTHER_SEED, step, n_best, rows))
        return join(parts)
