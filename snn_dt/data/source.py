"""Interfaces of data sources: `Source` streams episodes to the builder, `DataSource` finds and opens a dataset.

Register an own data source under a prefix. Then `data.dataset: csv:NAME` selects it:

    snn_dt.register_data_source("csv", read)

The entry is a function or a `DataSource`. The result of a function `read(name) -> Source | Trajectories` stays in
memory; `Trajectories.from_arrays` and `from_episodes` make one from numpy. The datasets of a `DataSource` are cached as
memory-mapped arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from snn_dt.data.scores import ReferenceScores

if TYPE_CHECKING:
    import gymnasium as gym


class Episode(NamedTuple):
    """One episode of T steps as it is stored; the builder checks and converts it."""

    observations: NDArray[Any]  # [T, obs_dim] or [T + 1, obs_dim]; the observation after the last action is dropped
    actions: NDArray[Any]  # [T, action_dim], or [T] if discrete
    rewards: NDArray[Any]  # [T]
    terminated: bool
    truncated: bool


@dataclass(frozen=True)
class Source:
    """A dataset before it is read: its facts, and a function that streams its episodes.

    Attributes:
        env_id: Gymnasium id of the environment to evaluate in.
        env_spec: that environment as JSON of Gymnasium's `EnvSpec`.
        time_limit: step limit of that environment.
        reference: returns that count as score 0 and 100.
        episodes: called for each pass over the data; it may be called more than once.
        n_steps: number of steps that the metadata state.
        clip_actions: clip actions to `action_space`, for files that do not store the bounds.
        notes: warnings about how the files were read.
    """

    dataset_id: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    env_id: str | None
    env_spec: str | None
    time_limit: int | None
    reference: ReferenceScores | None
    n_episodes: int
    episodes: Callable[[], Iterator[Episode]]
    n_steps: int | None = None
    clip_actions: bool = False
    notes: tuple[str, ...] = ()


class Located(NamedTuple):
    """A dataset that was found on this machine."""

    dataset_id: str
    path: Path
    files: Sequence[Path]  # files at or below `path`; the cache is rebuilt when one of them changes


class ReadOptions(NamedTuple):
    """Arguments of `load_dataset` that concern a file format."""

    action_space: gym.Space[Any] | None = None
    trust: bool = False


@dataclass(frozen=True)
class DataSource:
    """How `PREFIX:NAME` becomes a stream of episodes.

    Attributes:
        locate: `(name, download) -> Located`; raises `DataError` if the dataset is missing.
        read: `(located, options) -> Source`; raises `DataError` if it cannot be used.
        takes_action_space: the files do not store the action space, so `ReadOptions.action_space` is used.
    """

    locate: Callable[[str, bool], Located]
    read: Callable[[Located, ReadOptions], Source]
    takes_action_space: bool = False
