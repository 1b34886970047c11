"""Training batches: windows of K steps, drawn by their last step.

Shapes: `B` windows, `K` context length in environment steps, `obs_dim`, `action_dim` as in `Trajectories`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.data.mmap_advice import read_at_random
from snn_dt.data.trajectories import Trajectories

RAISE = 0.1
"""Mean of what a raised return-to-go is raised by, in ranges of the returns-to-go of the data."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows as a model takes them; pads are on the left and all zero.

    | field | shape, type | |
    |---|---|---|
    | `rtg` | [B, K, 1] float32 | return-to-go / rtg_scale |
    | `states` | [B, K, obs_dim] float32 | normalised observations |
    | `actions` | [B, K, action_dim] float32 or [B, K] int64 | environment units, or 0-based choice |
    | `timesteps` | [B, K] int64 | index in the episode |
    | `attention_mask` | [B, K] bool | True = real step |
    """

    rtg: torch.Tensor
    states: torch.Tensor
    actions: torch.Tensor
    timesteps: torch.Tensor
    attention_mask: torch.Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on `device`."""
        return Batch(*(x.to(device, non_blocking=non_blocking) for x in self.fields))

    @property
    def fields(self) -> tuple[torch.Tensor, ...]:
        """The tensors, in the order of the table."""
        return tuple(getattr(self, f.name) for f in fields(self))


class Windows:
    """Draws windows of `context_length` steps from some episodes of a dataset.

    A window is drawn by its END, uniformly over all steps of the chosen episodes: in proportion to episode length, and
    the short contexts at the start of an episode are seen as often as a rollout meets them. (Chen et al. 2021 draw the
    first step: there the padded windows are those of an episode's last steps, which a rollout never meets.)

    `episodes`: indices into the dataset's episodes, all by default. `normalize`: subtract `state_mean`, divide by
    `state_std`. `len(windows)` is the number of different windows.

    `raised`: share of the windows that are asked for more than they got, all their returns-to-go raised by one amount,
    exponentially distributed (mean `RAISE`). A policy that falls behind its target is asked just that, in states where
    no episode of the data got so much. Cf. the conservative regularisation of Nguyen et al. 2022 (arXiv 2210.05158),
    which raises the best episodes alone.
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
    ) -> None:
        if context_length < 1 or rtg_scale <= 0:
            raise ValueError(f"expected context_length >= 1, rtg_scale > 0; found {context_length}, {rtg_scale}")
        read_at_random(trajectories.observations, trajectories.actions, trajectories.returns_to_go)
        # asarray: indexing a np.memmap object costs several times as much as the same ndarray.
        self._observations = np.asarray(trajectories.observations)
        self._actions = np.asarray(trajectories.actions)
        self._returns_to_go = np.asarray(trajectories.returns_to_go)
        self._offsets = np.asarray(trajectories.episode_offsets)
        self._first_action = int(trajectories.action_space.start) if trajectories.discrete else 0  # type: ignore[attr-defined]
        self._rtg_factor = np.float32(1.0 / rtg_scale)
        self._raised = raised
        self._raise = RAISE * float(np.ptp(self._returns_to_go)) if raised else 0.0
        self._back = np.arange(1 - context_length, 1)  # [K] -K+1 .. 0
        self._normalize = normalize
        # One row of K states: numpy broadcasts a long row far faster than one of obs_dim numbers.
        self._mean = np.tile(trajectories.state_mean, context_length)
        self._inverse_std = np.tile(1.0 / trajectories.state_std, context_length)
        self._chosen = None if episodes is None else np.asarray(episodes, dtype=np.int64)
        lengths = trajectories.episode_lengths if self._chosen is None else trajectories.episode_lengths[self._chosen]
        self._drawn_offsets = np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return int(self._drawn_offsets[-1])

    def batch(self, seed: int, step: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Batch:
        """Return this rank's slice of the batch of training step `step`, a pure function of its arguments.

        `batch_size` is that of all ranks together: the whole batch is drawn everywhere and rank r takes windows
        `r B / W` to `(r + 1) B / W`, so a run on other ranks sees the same batches.
        """
        return self.rows(seed, step, batch_size, share(batch_size, rank, world_size))

    def rows(self, seed: int, step: int, batch_size: int, own: slice) -> Batch:
        """Return the rows `own` of the batch of all ranks."""
        # Philox is counter-based: the key is the seed, the counter's highest word the step, so streams never overlap.
        generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, step]))
        draws = generator.integers(0, len(self), size=batch_size)
        raises = self._raises(generator, batch_size)
        return self.at(self.ends(draws[own]), raises[own])

    def ends(self, draws: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the flat indices of the windows numbered `draws`, each in [0, len(self)), over the chosen episodes."""
        if self._chosen is None:
            return draws
        position = np.searchsorted(self._drawn_offsets, draws, side="right") - 1
        ends: NDArray[np.int64] = self._offsets[self._chosen[position]] + draws - self._drawn_offsets[position]
        return ends

    def _raises(self, generator: np.random.Generator, n: int) -> NDArray[np.float32]:
        """Draw what `n` windows or episodes are asked for beyond what they got, in environment units; most often 0."""
        if not self._raised:
            return np.zeros(n, np.float32)
        asked_for_more = generator.random(n) < self._raised
        return (asked_for_more * generator.exponential(self._raise, n)).astype(np.float32)

    def at(self, ends: NDArray[np.int64], raises: NDArray[np.float32] | float = 0.0) -> Batch:
        """Return the windows whose last step is at the flat indices `ends` [B], their rtg raised by `raises` [B]."""
        starts = self._offsets[np.searchsorted(self._offsets, ends, side="right") - 1]
        timesteps = (ends - starts)[:, None] + self._back  # [B, K], negative on pads
        mask = timesteps >= 0
        np.maximum(timesteps, 0, out=timesteps)
        rows = starts[:, None] + timesteps  # a pad reads its episode's first row, and is zeroed below
        states = self._take_states(rows)
        actions = self._actions.take(rows, axis=0)
        if self._first_action:
            actions -= self._first_action
        rtg = (self._returns_to_go.take(rows) + np.asarray(raises, np.float32).reshape(-1, 1)) * self._rtg_factor
        if not mask.all():
            pad = ~mask
            states[pad], actions[pad], rtg[pad] = 0, 0, 0
        arrays: tuple[NDArray[Any], ...] = (rtg[..., None], states, actions, timesteps, mask)
        return Batch(*map(torch.from_numpy, arrays))

    def _take_states(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        states = self._observations.take(rows, axis=0)  # [B, K, obs_dim]
        if self._normalize:
            flat = states.reshape(len(rows), -1)
            flat -= self._mean
            flat *= self._inverse_std
        return states.astype(np.float32, copy=False)  # not before: 64 bits are there for what is left without the mean


def share(batch_size: int, rank: int, world_size: int) -> slice:
    """Return which rows of a batch are rank r's: `r B / W` to `(r + 1) B / W`."""
    return slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)


def join(parts: Sequence[Batch]) -> Batch:
    """Return the rows of all parts as one batch."""
    return Batch(*map(torch.cat, zip(*(part.fields for part in parts), strict=True)))
