"""Training batches: windows of K steps, sampled by their last step; the best episodes may be oversampled.

Shapes: `B` windows; `K` context length in environment steps; `obs_dim` and `action_dim` as in `Trajectories`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.data.hindsight import Hindsight, goal_columns
from snn_dt.data.images import ImageRows
from snn_dt.data.mmap_advice import read_at_random
from snn_dt.data.trajectories import Trajectories

RTG_INCREASE = 0.1
"""Mean increase of an augmented return-to-go, as a fraction of the range of the returns-to-go in the data."""
TOP_SHARE = 0.1
"""Fraction of the steps that the best episodes hold."""
SEED_OFFSET = 2**32
"""Added to the seed of the rows from the best episodes. Seeds are smaller, so that the two random streams differ."""


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of windows as a model takes it. Padding is on the left and zero.

    | field | shape, type | |
    |---|---|---|
    | `rtg` | [B, K, 1] float32 | return-to-go / rtg_scale |
    | `states` | [B, K, obs_dim] float32 | normalised observations; with an image bytes of `snn_dt.data.images` |
    | `actions` | [B, K, action_dim] float32 or [B, K] int64 | environment units, or index of the choice |
    | `timesteps` | [B, K] int64 | index in the episode |
    | `attention_mask` | [B, K] bool | True = real step |
    | `goal` | [B, 1] float32, or None | return of the whole episode / rtg_scale, if the sampler has `goals` |
    """

    rtg: torch.Tensor
    states: torch.Tensor
    actions: torch.Tensor
    timesteps: torch.Tensor
    attention_mask: torch.Tensor
    goal: torch.Tensor | None = None

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on `device`."""
        return Batch(*(x.to(device, non_blocking=non_blocking) for x in self.fields))

    @property
    def fields(self) -> tuple[torch.Tensor, ...]:
        """The tensors, in the order of the table: the arguments of a model."""
        return tuple(x for f in fields(self) if (x := getattr(self, f.name)) is not None)


class WindowSampler:
    """Samples windows of `context_length` steps from the episodes of a dataset.

    The last step of a window is drawn uniformly from all steps of the episodes. So episodes are drawn in proportion to
    their length and the short contexts at the start of an episode are as frequent as in a rollout. (Chen et al. 2021
    draw the first step. Their padded windows hold the last steps of an episode, which a rollout never meets.)

    Args:
        trajectories: the dataset.
        context_length: K.
        rtg_scale: divisor of the returns-to-go.
        episodes: indices of the episodes to draw from; default: all.
        normalize: subtract `state_mean` and divide by `state_std`.
        raised: fraction of windows with return-to-go augmentation. All returns-to-go of such a window are increased by
            one amount, exponentially distributed with mean `RTG_INCREASE`. A policy that falls behind its target meets
            such returns-to-go. Nguyen et al. 2022 (arXiv 2210.05158) increase only those of the best episodes.
        goals: also give the return of each window's whole episode, which augmentation does not change.
        relabelled: fraction of windows whose desired goal is one that the episode achieved later; see
            `snn_dt.data.hindsight.Hindsight`. The observations must hold both goals.
    """

    def __init__(
        self,
        trajectories: Trajectories,
        context_length: int,
        *,
        rtg_scale: float,
        episodes: NDArray[np.int64] | None = None,
        normalize: bool = True,
        raised: float = 0.0,
        goals: bool = False,
        relabelled: float = 0.0,
    ) -> None:
        if context_length < 1 or rtg_scale <= 0:
            raise ValueError(f"expected context_length >= 1, rtg_scale > 0; found {context_length}, {rtg_scale}")
        arrays = trajectories.observations, trajectories.actions, trajectories.returns_to_go
        read_at_random(*arrays)
        # asarray: indexing an np.memmap object costs several times as much as indexing an ndarray.
        self._observations, self._actions, self._returns_to_go = map(np.asarray, arrays)
        self._offsets = np.asarray(trajectories.episode_offsets)
        space: Any = trajectories.action_space
        self._first_action = int(space.start) if trajectories.discrete else 0
        self._rtg_factor = np.float32(1.0 / rtg_scale)
        self._augmented, self._goals = raised, goals
        self._mean_increase = RTG_INCREASE * float(np.ptp(self._returns_to_go)) if raised else 0.0
        columns = goal_columns(trajectories.observation_space) if relabelled else None
        self._hindsight = None if columns is None else Hindsight(columns, relabelled, self._offsets)
        self._steps_back = np.arange(1 - context_length, 1)  # [K], from -K + 1 to 0
        self._normalize = normalize
        self._gather: Any = ImageRows(trajectories, normalize).take if trajectories.image else self._gather_states
        # [K * obs_dim]: numpy broadcasts one long row much faster than K rows of obs_dim numbers.
        self._mean = np.tile(trajectories.state_mean, context_length)
        self._inverse_std = np.tile(1.0 / trajectories.state_std, context_length)
        self._chosen = None if episodes is None else np.asarray(episodes, dtype=np.int64)
        lengths = trajectories.episode_lengths if self._chosen is None else trajectories.episode_lengths[self._chosen]
        self._chosen_offsets = np.concatenate([[0], np.cumsum(lengths)])  # [chosen episodes + 1]

    def __len__(self) -> int:
        return int(self._chosen_offsets[-1])

    def batch(self, seed: int, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this rank's rows of the batch of training step `step`. It is a pure function of the arguments.

        `batch_size` counts the rows of all ranks. Each rank draws the numbers of the whole batch and gathers its own
        rows, so the batches do not depend on the number of ranks.
        """
        return self.batch_rows(seed, step, batch_size, rank_rows(batch_size, rank, world_size))

    def batch_rows(self, seed: int, step: int, batch_size: int, rows: slice) -> Batch:
        """Return some rows of the batch of all ranks."""
        # Philox is counter-based. The seed is the key, the step the counter's highest word: streams never overlap.
        generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
        draws = generator.integers(0, len(self), size=batch_size)
        increases = self._rtg_increases(generator, batch_size)
        if self._hindsight is None:
            return self.at(self._last_steps(draws[rows]), increases[rows])
        ends = self._last_steps(draws)
        return self.at(ends[rows], increases[rows], self._hindsight.draw(generator, ends)[rows])

    def draw(self, generator: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return the last steps of `count` random windows as flat indices, for `at`."""
        return self._last_steps(generator.integers(len(self), size=count))

    def at(
        self,
        ends: NDArray[np.int64],
        increases: NDArray[np.float32] | float = 0.0,
        desired: NDArray[np.int64] | None = None,
    ) -> Batch:
        """Return the windows that end at the flat indices `ends` [B], with returns-to-go increased by `increases`.

        `desired` [B] are the steps whose achieved goals the windows desire, see `Hindsight.draw`.
        """
        starts = self._offsets[np.searchsorted(self._offsets, ends, side="right") - 1]  # [B], first step of the episode
        timesteps = (ends - starts)[:, None] + self._steps_back  # [B, K], negative for padding
        mask = timesteps >= 0
        np.maximum(timesteps, 0, out=timesteps)
        rows = starts[:, None] + timesteps  # [B, K]; padding reads the episode's first step and is zeroed below
        states = self._gather(rows, desired, starts)
        actions = self._actions.take(rows, axis=0)  # [B, K, action_dim] or [B, K]
        if self._first_action:
            actions -= self._first_action  # a model counts choices from 0
        # [B, K] plus one increase per window, [B, 1]
        rtg = (self._returns_to_go.take(rows) + np.asarray(increases, np.float32).reshape(-1, 1)) * self._rtg_factor
        if not mask.all():
            padding = ~mask
            states[padding], actions[padding], rtg[padding] = 0, 0, 0
        # rtg: [B, K] -> [B, K, 1]
        arrays: tuple[NDArray[Any], ...] = (rtg[..., None], states, actions, timesteps, mask)
        # Augmentation raises what is asked of a step, not what its episode has returned.
        goal = (self._returns_to_go.take(starts)[:, None] * self._rtg_factor,) if self._goals else ()  # [B, 1]
        return Batch(*map(torch.from_numpy, (*arrays, *goal)))

    def _last_steps(self, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the flat indices of the last steps of the windows with numbers `draws` in [0, len(self))."""
        if self._chosen is None:
            return draws
        # A number counts the steps of the chosen episodes: find its episode, then the step in the episode.
        position = np.searchsorted(self._chosen_offsets, draws, side="right") - 1
        ends: NDArray[np.int64] = self._offsets[self._chosen[position]] + draws - self._chosen_offsets[position]
        return ends

    def _rtg_increases(self, generator: np.random.Generator, n: int) -> NDArray[np.float32]:
        """Draw the increases of the returns-to-go of `n` windows or episodes, in environment units."""
        if not self._augmented:
            return np.zeros(n, np.float32)
        augmented = generator.random(n) < self._augmented
        return (augmented * generator.exponential(self._mean_increase, n)).astype(np.float32)

    def _gather_states(self, rows: NDArray[np.int64], desired: NDArray[np.int64] | None, _: Any) -> NDArray[np.float32]:
        states = self._observations.take(rows, axis=0)  # [B, K, obs_dim]
        if self._hindsight is not None and desired is not None:
            self._hindsight.apply(states, desired, self._observations)
        if self._normalize:
            flat = states.reshape(len(rows), -1)  # [B, K * obs_dim], a view
            flat -= self._mean
            flat *= self._inverse_std
        return states.astype(np.float32, copy=False)  # only now: subtracting the mean may need 64 bits


class OversampledWindows:
    """Batches of which a fraction `of_best`, the last rows, comes from the sampler `best`, the rest from `every`.

    A return-conditioned model learns which action follows from a state and a return-to-go. Drawing some episodes more
    often does not change that relation. Without it the best episodes, a tenth of the steps or less, are seen too seldom
    to be imitated well.
    """

    def __init__(self, every: WindowSampler, best: WindowSampler, of_best: float) -> None:
        self._every, self._best, self._of_best = every, best, of_best

    def batch(self, seed: int, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this rank's rows of the batch of training step `step`, a pure function of the arguments."""
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


Windows, Mixture = WindowSampler, OversampledWindows  # their names in 0.1.0


def rank_rows(batch_size: int, rank: int, world_size: int) -> slice:
    """Return the rows of a batch that rank r of W computes: `r B / W` to `(r + 1) B / W`."""
    return slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)


def join(parts: Sequence[Batch]) -> Batch:
    """Concatenate batches."""
    return Batch(*map(torch.cat, zip(*(part.fields for part in parts), strict=True)))
