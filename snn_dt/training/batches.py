"""Training and validation batches of a run, drawn in background threads.

B windows of K steps; see `snn_dt.data.windows.Batch` for the shapes of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.config import Config
from snn_dt.data import Trajectories, WindowSampler
from snn_dt.data.episode_streams import EpisodeStreams
from snn_dt.data.windows import TOP_SHARE, Batch, OversampledWindows
from snn_dt.learning.losses import loss_of
from snn_dt.training.distributed import Workers

T = TypeVar("T")
MAX_VALIDATION_BATCHES = 20


class Prefetch(Generic[T]):
    """Calls `draw` for the next `ahead` steps in background threads and returns the result for the current step.

    Reading a dataset from disk takes as long as an update. Here both run in parallel. `draw` must be a pure function of
    the step. It may be called early or out of order, and for steps that are never used. An error is raised when its
    step is requested.
    """

    def __init__(self, draw: Callable[[int], T], ahead: int = 2) -> None:
        self._draw, self._ahead = draw, ahead
        self._pool = ThreadPoolExecutor(ahead, thread_name_prefix="batches")
        self._drawn: dict[int, Future[T]] = {}

    def __call__(self, step: int) -> T:
        """Return the batch of update `step`."""
        wanted = range(step, step + self._ahead + 1)
        # Futures of past steps are dropped, and with them their batches.
        self._drawn = {s: self._drawn.get(s) or self._pool.submit(self._draw, s) for s in wanted}
        return self._drawn[step].result()


def training_batches(
    config: Config, trajectories: Trajectories, episodes: NDArray[np.int64], rtg_scale: float, workers: Workers
) -> Prefetch[Batch]:
    """Return a function from the number of an update to this process's slice of its batch."""
    data, train = config.data, config.train
    make = partial(_windows, config, trajectories, rtg_scale, EpisodeStreams if train.stateful else WindowSampler)
    chosen = trajectories.best(episodes, data.filter_top)
    source: WindowSampler | OversampledWindows
    source = windows = make(chosen, data.rtg_augment, data.relabel_goals)
    if data.oversample_top:
        best = make(trajectories.best(chosen, TOP_SHARE), data.rtg_augment, data.relabel_goals)
        source = OversampledWindows(windows, best, data.oversample_top)

    def draw(step: int) -> Batch:
        return source.batch(train.seed, step, train.batch_size, rank=workers.rank, world_size=workers.world_size)

    return Prefetch(draw)


def validation_loss(
    config: Config, trajectories: Trajectories, episodes: NDArray[np.int64], rtg_scale: float, model: Any
) -> Callable[[], float]:
    """Return a function for the mean loss on held-out episodes. It uses the same windows every time."""
    windows = _windows(config, trajectories, rtg_scale, WindowSampler, episodes)
    batch_size, device = config.train.batch_size, next(model.parameters()).device

    @torch.no_grad()
    def validate() -> float:
        losses = []
        for step in range(max(1, min(MAX_VALIDATION_BATCHES, len(windows) // batch_size))):
            # A fixed seed draws the same windows at each validation.
            batch = windows.batch(config.data.split_seed, step, batch_size).to(device)
            predictions = model(*batch.fields)
            losses.append(float(loss_of(model, batch, predictions)[0]))
        return math.fsum(losses) / len(losses)

    return validate


def _windows(
    config: Config,
    trajectories: Trajectories,
    rtg_scale: float,
    kind: type[WindowSampler],
    episodes: NDArray[np.int64],
    raised: float = 0.0,
    relabelled: float = 0.0,
) -> WindowSampler:
    return kind(
        trajectories,
        config.model.context_length,
        rtg_scale=rtg_scale,
        episodes=episodes,
        normalize=config.data.normalize,
        raised=raised,
        relabelled=relabelled,
        goals=config.model.goal != "none" and config.model.reads_return,
    )
