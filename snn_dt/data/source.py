"""What a reader of one file format hands to the builder of flat arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from snn_dt.data.scores import ReferenceScores

if TYPE_CHECKING:
    import gymnasium as gym


class Episode(NamedTuple):
    """One episode of T steps as its file has it; the builder checks and converts it."""

    observations: NDArray[Any]  # [T, obs_dim] or [T + 1, obs_dim]: what follows the last action is dropped
    actions: NDArray[Any]  # [T, action_dim], or [T] if discrete
    rewards: NDArray[Any]  # [T]
    terminated: bool
    truncated: bool


@dataclass(frozen=True)
class Source:
    """A dataset before it is read: its facts, and a function that streams its episodes."""

    dataset_id: str
    observation_space: gym.Space[Any]
    action_space: gym.Space[Any]
    env_id: str | None
    env_spec: str | None
    time_limit: int | None
    reference: ReferenceScores | None
    n_episodes: int
    episodes: Callable[[], Iterator[Episode]]
