"""Training batches in which the best episodes are oversampled (`data.oversample_top`)."""

from __future__ import annotations

from snn_dt.data.windows import Batch, WindowSampler, join, rank_rows

BEST = 0.1
"""Fraction of the steps that the best episodes hold."""

SEED_OFFSET = 2**32
"""Added to the seed of the rows from the best episodes. Seeds are smaller, so the two random streams differ."""


class OversampledWindows:
    """Batches with rows of two samplers: a fraction `of_best` at the end comes from `best`, the others from `every`.

    A return-conditioned model learns which action follows from a state and a return-to-go. Oversampling some episodes
    does not change that relation. Without it the best episodes are too rare to be imitated well, because they hold a
    tenth of the steps or less.
    """

    def __init__(self, every: WindowSampler, best: WindowSampler, of_best: float) -> None:
        self._every, self._best, self._of_best = every, best, of_best

    def batch(self, seed: int, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this rank's rows of the batch of training step `step`. It is a pure function of the arguments."""
        # The number of rows of each part is that of the whole batch, so it does not depend on the ranks.
        own, n_best = rank_rows(batch_size, rank, world_size), round(self._of_best * batch_size)
        n_every = batch_size - n_best
        parts = []
        # The rank's rows may lie in the first part, in the second, or in both.
        if own.start < n_every:
            rows = slice(own.start, min(own.stop, n_every))
            parts.append(self._every.batch_rows(seed, step, n_every, rows))
        if own.stop > n_every:
            rows = slice(max(own.start - n_every, 0), own.stop - n_every)
            parts.append(self._best.batch_rows(seed + SEED_OFFSET, step, n_best, rows))
        return join(parts)
