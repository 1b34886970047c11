"""What a reader of one file format hands to the builder of flat arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from snn_dt.data.scores import ReferenceScores
from snn_dt.errors import DataError, SnnDtError

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
    n_steps: int | None = None  # as the file's metadata have it, None where they do not say
    clip_actions: bool = False  # where the file does not name the bounds: what is outside was cut by the environment
    notes: tuple[str, ...] = ()  # what the user should know of how the file was read


MOST_RATIO = 200
"""Bytes of numbers for each byte of a file, where it is compressed: real data reach about 20."""
ALWAYS = 1 << 26
"""Bytes of numbers that any file may have, 64 MiB."""


@dataclass
class Declared:
    """Bytes of numbers that the files of a dataset claim to hold, over the bytes they have.

    A few kB can make the file libraries fill any memory, with rows that were never written or zeros that pack well.
    """

    path: Path
    size: int = 0
    bytes: int = 0

    def add(self, declared: int, size: int = 0) -> None:
        """Count numbers that are to be read, and the file they are in; raises `DataError` where it hardly has room."""
        self.bytes, self.size = self.bytes + declared, self.size + size
        if self.bytes > max(ALWAYS, MOST_RATIO * self.size):
            raise DataError(
                f"{self.path} has {self.size} bytes and declares {self.bytes} bytes of numbers: expected at most "
                f"{MOST_RATIO} times as many; it is damaged or made up, download or copy the dataset again"
            )


@contextmanager
def damaged_file(path: Path) -> Iterator[None]:
    """Turn what the file libraries raise for a broken file, each its own kinds, into one `DataError`."""
    try:
        yield
    except SnnDtError:
        raise
    except Exception as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else (error.args or (error,))[0]
        reason = " ".join(str(said).split())
        raise DataError(
            f"cannot read {path}: it is missing, damaged or incomplete ({reason}); download or copy the dataset again"
        ) from error
