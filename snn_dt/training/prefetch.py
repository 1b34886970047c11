"""Batches drawn in the background, while the updates before them are computed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Calls `draw` for the next `ahead` steps in threads of its own, and returns what `draw(step)` returns.

    Reading pages of a dataset that is not in memory takes as long as an update; here it takes place meanwhile, several
    reads at a time. `draw` must be a pure function of the step, so that nothing depends on when it is called; it may
    be called for up to `ahead` steps that are never asked for. What it raises is raised for the step concerned.
    """

    def __init__(self, draw: Callable[[int], T], ahead: int = 2) -> None:
        self._draw, self._ahead = draw, ahead
        self._pool = ThreadPoolExecutor(ahead, thread_name_prefix="batches")
        self._drawn: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """Return the batch of update `step`."""
        wanted = range(step, step + self._ahead + 1)
        self._drawn = {s: self._drawn.get(s) or self._pool.submit(self._draw, s) for s in wanted}
        return self._drawn[step].result()
