"""Trajectories from arrays in memory: `Trajectories.from_arrays` and `Trajectories.from_episodes`.

Both describe the arrays as a `Source`. So they use the builder of the file formats with the same checks, notes and
normalisation.

Shapes: `N` steps of all episodes; `T` steps of one episode; `A` action columns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from snn_dt.data.cache import build_in_memory
from snn_dt.data.flags import as_flags, ending
from snn_dt.data.inferred_spaces import actions_of, unbounded_observations
from snn_dt.data.scores import ReferenceScores, environment_reference
from snn_dt.data.source import Episode, Source
from snn_dt.data.spaces import check_supported, space_notes
from snn_dt.data.trajectories import RewardMode, Trajectories
from snn_dt.errors import DataError, did_you_mean

_log = logging.getLogger("snn_dt")

_COLUMNS = ("observations", "actions", "rewards")
_FLAGS = ("terminations", "truncations")
_IGNORED = ("id", "seed", "options", "infos")  # other fields of Minari's episodes


@dataclass(frozen=True)
class Facts:
    """What the arrays do not say; the keyword arguments of both constructors."""

    dataset_id: str
    env_id: str | None = None
    observation_space: gym.Space[Any] | None = None
    action_space: gym.Space[Any] | None = None
    reference: ReferenceScores | tuple[float, float] | None = None
    reward_mode: RewardMode = "dense"

    @property
    def spaces(self) -> dict[str, Any]:
        """The spaces by column; None if they are not given."""
        return {"observations": self.observation_space, "actions": self.action_space}


def from_arrays(columns: Sequence[Any], flags: Sequence[Any], facts: Facts) -> Trajectories:
    """Build trajectories from (observations, actions, rewards) [N, ...] and (terminations, truncations) [N]."""
    where = f"dataset {facts.dataset_id!r}"
    arrays = [
        _values(values, name, where, facts.spaces.get(name)) for name, values in zip(_COLUMNS, columns, strict=True)
    ]
    terminations, truncations = (
        as_flags(_numbers(values, name, where), name, where) for name, values in zip(_FLAGS, flags, strict=True)
    )
    rows = dict(zip((*_COLUMNS, *_FLAGS), map(_length, (*arrays, terminations, truncations)), strict=True))
    if len(set(rows.values())) > 1 or not rows["rewards"]:
        counts = ", ".join(f"{count} {name}" for name, count in rows.items())
        raise DataError(
            f"{where} has {counts}: expected one of each for every step, and at least one step; from_episodes "
            "also takes the observation that follows an episode's last action"
        )
    ends = np.flatnonzero(terminations | truncations) + 1
    # The rest after the last mark is an episode too.
    if not len(ends) or ends[-1] < rows["rewards"]:
        ends = np.append(ends, rows["rewards"])
    episodes = []
    # Each episode starts where the previous one ends.
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        observations, actions, rewards = (_rows(array, start, end) for array in arrays)  # views, not copies
        flags_at_end = bool(terminations[end - 1]), bool(truncations[end - 1])
        episodes.append(Episode(observations, actions, rewards, *flags_at_end))
    return _build(episodes, facts)


def from_episodes(episodes: Sequence[Mapping[str, Any]], facts: Facts) -> Trajectories:
    """Build trajectories from one dictionary of arrays [T, ...] for each episode."""
    if isinstance(episodes, (Mapping, str)) or not isinstance(episodes, Sequence):
        raise DataError(
            f"expected a list with one dictionary of arrays for each episode, found {type(episodes).__name__}; for "
            "flat arrays of all steps use from_arrays"
        )
    where = f"of dataset {facts.dataset_id!r}"
    found = [_episode(values, f"episode {i} {where}", facts) for i, values in enumerate(episodes)]
    return _build(found, facts)


def _episode(values: Mapping[str, Any], where: str, facts: Facts) -> Episode:
    """Return one episode of `from_episodes`; observations may have T + 1 rows."""
    if not isinstance(values, Mapping):
        raise DataError(f"{where} is of type {type(values).__name__}: expected a dictionary of arrays")
    if missing := [name for name in _COLUMNS if name not in values]:
        raise DataError(f"{where} lacks {', '.join(missing)}: expected {', '.join(_COLUMNS)}; add it")
    known = (*_COLUMNS, *_FLAGS, *_IGNORED)
    # A misspelled flag would otherwise be taken as missing.
    if unknown := [str(key) for key in values if key not in known]:
        raise DataError(f"{where} has an unknown key {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    observations, actions, rewards = (_values(values[name], name, where, facts.spaces.get(name)) for name in _COLUMNS)
    steps = len(rewards)
    terminations, truncations = (_flags(values.get(name, False), name, steps, where) for name in _FLAGS)
    terminated, truncated = ending(terminations, truncations, steps, where)
    return Episode(observations, actions, rewards, terminated, truncated)


def _flags(values: Any, name: str, steps: int, where: str) -> Any:
    """Return flags [T]; a single flag is that of the last step."""
    if not isinstance(values, (bool, np.bool_, int)):
        return _numbers(values, name, where)
    flags = np.zeros(steps, np.bool_)
    flags[-1:] = as_flags(values, name, where)
    return flags


def _values(values: Any, name: str, where: str, space: Any) -> Any:
    """Return an array of numbers, or dictionaries and tuples of them for a Dict or a Tuple space."""
    if isinstance(values, Mapping):
        inner = space.spaces if isinstance(space, gym.spaces.Dict) else {}
        return {key: _values(part, f"{name} at {key!r}", where, inner.get(key)) for key, part in values.items()}
    # Without a Tuple space a tuple is a sequence of rows, as a list is.
    if isinstance(space, gym.spaces.Tuple) and isinstance(values, tuple) and len(values) == len(space.spaces):
        pairs = enumerate(zip(values, space.spaces, strict=True))
        return tuple(_values(part, f"{name} at {i}", where, inside) for i, (part, inside) in pairs)
    return _numbers(values, name, where)


def _length(values: Any) -> int | str:
    """Return the number of rows of an array, or of arrays inside dictionaries and tuples, as text if they differ."""
    if not isinstance(values, dict | tuple):
        return len(values)
    found = {_length(part) for part in (values.values() if isinstance(values, dict) else values)}
    return found.pop() if len(found) == 1 else " or ".join(sorted(map(str, found))) or 0


def _rows(values: Any, start: int, end: int) -> Any:
    """Return rows of an array, or of the arrays inside dictionaries and tuples."""
    if isinstance(values, dict):
        return {key: _rows(part, start, end) for key, part in values.items()}
    return tuple(_rows(part, start, end) for part in values) if isinstance(values, tuple) else values[start:end]


def _numbers(values: Any, name: str, where: str) -> NDArray[Any]:
    """Return an array of numbers [n] or [n, ...], or raise `DataError`."""
    if np.ma.is_masked(values):  # `np.asarray` would drop the mask
        raise DataError(f"{where} has {name} with masked values: expected a number for each; fill or drop them")
    try:
        array = np.asarray(values)
    except Exception as error:  # lists of different lengths, tensors on a GPU: each library raises its own kind
        reason = " ".join(str(error).split())
        raise DataError(f"{where}: expected {name} as one array, found: {reason}; convert it with numpy") from error
    if array.dtype.kind not in "biuf" or array.ndim == 0:
        raise DataError(
            f"{where} has {name} of type {type(values).__name__}, {array.dtype}, and shape {list(array.shape)}: "
            "expected an array of numbers with one row for each step; convert it"
        )
    if name == "observations" and array.ndim == 1:
        return array[:, None]  # [n] -> [n, 1], a vector of one number
    if name == "rewards" and array.shape[1:] == (1,):
        return array[:, 0]  # [n, 1] -> [n]
    return array


def _build(episodes: list[Episode], facts: Facts) -> Trajectories:
    """Complete the facts, run the builder and log its notes."""
    if not isinstance(facts.dataset_id, str) or not facts.dataset_id:
        raise DataError(f"expected dataset_id as text, found {facts.dataset_id!r}; name the dataset")
    where = f"dataset {facts.dataset_id!r}"
    if facts.reward_mode not in get_args(RewardMode):
        raise DataError(f"unknown reward_mode {facts.reward_mode!r}: expected 'dense', 'delayed' or 'clipped'")
    if not episodes:
        raise DataError(f"{where} has no episode: expected at least one")
    observations, actions = facts.observation_space, facts.action_space
    notes: list[str] = []
    if observations is None:
        observations = unbounded_observations(episodes[0].observations)
    if actions is None:
        actions, notes = actions_of(episodes, where)
    for name, space in (("observation_space", observations), ("action_space", actions)):
        if not isinstance(space, gym.Space):
            raise DataError(f"{where}: expected {name} to be a gymnasium.Space, found {space!r:.60}")
    check_supported(observations, actions, facts.dataset_id)  # refuses spaces that cannot be learned from
    unmarked = [i for i, episode in enumerate(episodes) if not (episode.terminated or episode.truncated)]
    if unmarked:
        notes.append(
            f"{len(unmarked)} of {len(episodes)} episodes end without a termination or truncation, the first is "
            f"episode {unmarked[0]}: taken as truncated after their last step"
        )
    episodes = [
        e._replace(observations=_flatten(e.observations), truncated=bool(e.truncated or not e.terminated))
        for e in episodes
    ]
    source = Source(
        dataset_id=facts.dataset_id,
        observation_space=observations,
        action_space=actions,
        env_id=facts.env_id,
        env_spec=None,
        time_limit=_time_limit(facts.env_id, where),
        reference=_reference(facts),
        n_episodes=len(episodes),
        episodes=lambda: iter(episodes),
        notes=(*notes, *space_notes(observations)),
    )
    built = build_in_memory(source, facts.reward_mode)
    for note in built.notes:
        _log.warning("%s: %s", where, note)
    return built


def _flatten(observations: Any) -> Any:
    if isinstance(observations, dict | tuple):
        return observations
    return observations.reshape(len(observations), int(np.prod(observations.shape[1:])))  # [T, ...] -> [T, obs_dim]


def _time_limit(env_id: str | None, where: str) -> int | None:
    """Return the step limit of a registered environment. It is looked up, nothing is imported or made."""
    if env_id is None:
        return None
    if not isinstance(env_id, str) or not env_id:
        raise DataError(f"{where}: expected env_id as text such as 'CartPole-v1', found {env_id!r:.60}")
    # `module:Id` -> `Id`
    spec = gym.registry.get(env_id.rpartition(":")[2])
    return None if spec is None else spec.max_episode_steps


def _reference(facts: Facts) -> ReferenceScores | None:
    """Return the given reference scores, or else those known for the environment."""
    given = facts.reference
    if given is None or isinstance(given, ReferenceScores):
        return given or environment_reference(facts.env_id)
    try:
        low, high = map(float, given)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"expected reference as (return for score 0, return for score 100), found {given!r:.60}"
        ) from error
    return ReferenceScores(low, high, "given with the arrays")
