"""D4RL's HDF5 files, read with h5py alone (the `d4rl` package cannot be imported on a current Python).

A file is one flat table: `observations` [N, d], `actions` [N, a], `rewards` [N], `terminals` [N], `timeouts` [N]. Other
entries such as `metadata/*` are ignored. Rules for its episodes:

- An episode ends where `terminals` or `timeouts` is set, as in D4RL's `sequence_dataset`. All of its rewards are kept
  (`qlearning_dataset` drops the last step of a timed-out episode).
- The rows after the last such row are an incomplete episode. They are dropped with a note.
- On locomotion tasks no episode is longer than the limit. A longer stretch has unmarked ends and is cut at the limit.
- Without `timeouts` (some v0 files) an episode also ends at the task's time limit.
- antmaze sets `terminals` at each step at the goal, so only `timeouts` end an episode. Rewards are not changed. So an
  episode's return counts the steps at the goal (value-based methods subtract 1 from each reward).
- maze2d has no terminals. Its `timeouts` mark each reached goal and end an episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data import d4rl_tasks
from snn_dt.data.checks import ACTION_TOLERANCE
from snn_dt.data.d4rl_files import URLS, locate
from snn_dt.data.d4rl_files import local_datasets as local_datasets
from snn_dt.data.file_faults import damaged_file
from snn_dt.data.flags import as_flags
from snn_dt.data.hdf5 import open_hdf5
from snn_dt.data.images import is_image
from snn_dt.data.source import DataSource, Episode, Located, ReadOptions, Source
from snn_dt.data.spaces import check_supported, flattened
from snn_dt.errors import DataError

if TYPE_CHECKING:
    import gymnasium as gym

_BLOCK_ROWS = 1 << 16


def _read(located: Located, options: ReadOptions) -> Source:
    """Return a D4RL file as a stream of episodes. Raises `DataError` for a file of another layout.

    The file does not store the action space. It is that of the options or of a known task. Otherwise it is Box(-1, 1)
    or the range of the actions if that is larger.
    """
    from gymnasium import spaces

    name, path, action_space = located.dataset_id, located.path, options.action_space
    task_name = d4rl_tasks.task_name(name)
    task, limit = d4rl_tasks.TASKS.get(task_name), d4rl_tasks.time_limit(name)
    with damaged_file(path), open_hdf5(path) as file:
        if missing := {"observations", "actions", "rewards", "terminals"} - set(file):
            raise DataError(f"{path} is not in D4RL's layout: it lacks {', '.join(sorted(missing))}")
        rows = {name: file[name].shape[0] for name in ("observations", "actions")}
        rows |= {name: file[name].size for name in ("rewards", "terminals", "timeouts") if name in file}
        if len(set(rows.values())) > 1:
            raise DataError(f"{path} is not in D4RL's layout: expected as many rows in every column, found {rows}")
        shape, dtype = file["observations"].shape[1:], file["observations"].dtype
        obs_dim, action_dim = (int(np.prod(file[name].shape[1:])) for name in ("observations", "actions"))
        if not obs_dim or not action_dim or is_image(shape, dtype):
            raise DataError(
                f"{path} has observations of shape {list(shape)} and actions of {action_dim} numbers: expected vectors "
                "of at least one number, no images; choose another dataset"
            )
        # Only the shapes tell whether a file holds what its name says.
        if task and (obs_dim, action_dim) != (task.obs_dim, 1 if task.discrete else task.action_dim):
            task = None  # the file is named after the task but holds other data
        cut = task is not None and task_name in d4rl_tasks.CUT_AT_LIMIT
        ends, terminals, notes = _episode_ends(file, task_name, limit, cut, path)
        notes += [note for note in [flattened(shape, dtype)] if note]
        if action_space is None and task:
            discrete = spaces.Discrete(task.action_dim)
            action_space = discrete if task.discrete else spaces.Box(-1.0, 1.0, (action_dim,), np.float32)
        known = action_space is not None
        if action_space is None:
            action_space, more = _data_range(file["actions"], action_dim, path)
            notes += more
    space = spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
    check_supported(space, action_space, name)
    return Source(
        dataset_id=name,
        observation_space=space,
        action_space=action_space,
        env_id=task.env_id if task else None,
        env_spec=d4rl_tasks.env_spec(task.env_id) if task else None,
        time_limit=limit,
        reference=d4rl_tasks.reference(name, known=name in URLS) if task else None,
        n_episodes=len(ends),
        episodes=lambda: _episodes(path, ends, terminals),
        clip_actions=known,
        notes=tuple(notes),
    )


def _data_range(actions: Any, action_dim: int, path: Path) -> tuple[gym.Space[Any], list[str]]:
    """Return (Box, notes) of actions of an unknown environment. The Box is -1 to 1 or the wider range of the data."""
    from gymnasium import spaces

    if actions.dtype.kind != "f":
        raise DataError(
            f"{path} has actions of type {actions.dtype}: expected decimal numbers, as others may be choices, which "
            "D4RL's layout does not tell; name the environment with --eval.env_id (train) or --env-id (data), or store "
            "continuous actions as float32"
        )
    low, high = -np.ones(action_dim), np.ones(action_dim)
    # Block by block: the actions may be larger than memory.
    for start in range(0, len(actions), _BLOCK_ROWS):
        block = actions[start : start + _BLOCK_ROWS].reshape(-1, action_dim)  # [rows, action_dim]
        low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
    # Recorded actions may exceed -1 and 1 slightly; that is not a wider range.
    slack = 1 + 2 * ACTION_TOLERANCE
    if not (np.isfinite(low) & np.isfinite(high)).all() or (low.min() >= -slack and high.max() <= slack):
        return spaces.Box(-1.0, 1.0, (action_dim,), np.float32), []
    note = (
        f"actions go from {low.min():.6g} to {high.max():.6g}, beyond D4RL's -1 to 1: the bounds are those of the "
        "data; for those of the environment name it with --eval.env_id (train) or --env-id (data)"
    )
    low, high = low.astype(np.float32), high.astype(np.float32)
    return spaces.Box(low, high, (action_dim,), np.float32), [note]


def _episode_ends(
    file: Any, task_name: str, limit: int | None, cut: bool, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.bool_], list[str]]:
    """Return (row after each episode's last [E], `terminals` at each last row [E], notes)."""
    terminals, notes = as_flags(file["terminals"][()], "terminals", str(path)), []
    if "timeouts" in file:
        done = as_flags(file["timeouts"][()], "timeouts", str(path))
        # See the module docstring for antmaze and maze2d.
        if task_name != "antmaze":
            done |= terminals
        ends = np.flatnonzero(done) + 1
        if limit is not None and cut:
            marked, ends = ends, _ends_by_limit(ends, len(terminals), limit)
            if added := len(ends) - len(marked):
                notes.append(
                    f"{added} ends are not marked in the file: stretches of more than {limit} steps, the limit of "
                    f"{task_name}, were cut after every {limit}"
                )
    elif limit is None:
        raise DataError(
            f"{path} has no timeouts and its name does not tell the time limit: expected D4RL's own file name, "
            "or a timeouts entry"
        )
    else:
        ends = _ends_by_limit(np.flatnonzero(terminals) + 1, len(terminals), limit)
    if dropped := len(terminals) - int(ends[-1] if len(ends) else 0):
        notes.append(
            f"the last {dropped:,} of {len(terminals):,} rows ({dropped / len(terminals):.2%}) are not used: no "
            "terminal or timeout ends them"
        )
    return ends, terminals[ends - 1], notes


def _ends_by_limit(ends: NDArray[np.int64], rows: int, limit: int) -> NDArray[np.int64]:
    """Return `ends` and further ends, so that no episode (or rest of the file) is longer than `limit` rows."""
    # Each stretch between two ends, and the rest of the file.
    starts = np.concatenate([[0], ends])  # [E + 1]
    stops = np.append(ends, rows)
    cuts = [np.arange(start + limit, stop + 1, limit) for start, stop in zip(starts, stops, strict=True)]
    return np.unique(np.concatenate([ends, *cuts])).astype(np.int64)


def _episodes(path: Path, ends: NDArray[np.int64], terminals: NDArray[np.bool_]) -> Iterator[Episode]:
    """Yield the episodes. Rows are read in blocks of whole episodes, since compressed files are slow row by row."""
    starts = np.concatenate([[0], ends[:-1]])  # first row of each episode, [E]
    with damaged_file(path), open_hdf5(path) as file:
        first = 0
        while first < len(ends):
            # As many whole episodes as fit into a block, at least one.
            last = max(first + 1, int(np.searchsorted(ends, starts[first] + _BLOCK_ROWS, side="right")))
            rows = slice(int(starts[first]), int(ends[last - 1]))
            # [rows, ...] -> [rows, obs_dim]
            observations = file["observations"][rows].reshape(rows.stop - rows.start, -1)
            actions = file["actions"][rows]
            rewards = file["rewards"][rows].reshape(-1)  # [rows] or [rows, 1] -> [rows]
            for index in range(first, last):
                step = slice(int(starts[index]) - rows.start, int(ends[index]) - rows.start)
                terminated = bool(terminals[index])
                yield Episode(observations[step], actions[step], rewards[step], terminated, not terminated)
            first = last


D4RL = DataSource(locate, _read, takes_action_space=True)
