"""Readers of Minari's file formats. Each is a generator of episodes.

Arguments: `data` is the folder of the files. `observations` and `actions` are the spaces, which tell how columns are
nested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from numpy.typing import NDArray

from snn_dt import io
from snn_dt.data.arrow_columns import descend, numbers
from snn_dt.data.file_faults import Declared, damaged_file
from snn_dt.data.flags import ending, whole_number
from snn_dt.data.hdf5 import open_hdf5
from snn_dt.data.jpeg import decode, is_encoded
from snn_dt.data.source import Episode
from snn_dt.data.spaces import LeafPath
from snn_dt.data.tables import read_table
from snn_dt.errors import DataError


def _nested(space: gym.Space[Any], read: Callable[[LeafPath, Any], NDArray[Any]], at: LeafPath = ()) -> Any:
    """Return the arrays of a column, nested as its space is. `read` returns the array of a leaf, given its space."""
    if isinstance(space, spaces.Dict):
        return {key: _nested(sub, read, (*at, key)) for key, sub in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_nested(sub, read, (*at, index)) for index, sub in enumerate(space.spaces))
    return read(at, space)


def _check_names(found: Sequence[str], n_episodes: int, prefix: str, data: Path) -> None:
    """Raise `DataError` unless the file holds exactly the episodes 0 to n - 1."""
    there = set(found)
    # The first number without an episode; n + 1 numbers cannot all be among n names.
    missing = next(name for i in range(len(found) + 1) if (name := f"{prefix}{i}") not in there)
    if len(found) == n_episodes and missing == f"{prefix}{n_episodes}":
        return
    raise DataError(
        f"{data}: metadata.json says total_episodes {n_episodes}, the file holds {len(found)}, and the first number "
        f"without an episode is {missing}: expected as many as it says, numbered from 0; download or copy the dataset "
        "again, or correct total_episodes"
    )


def _check_metadata(facts: Any, index: int, steps: int, where: str) -> None:
    """Raise `DataError` if the metadata of an episode contradict its position or its number of rows."""
    for name, expected in (("id", index), ("total_steps", steps)):
        value = facts.get(name)
        if value is not None and whole_number(getattr(value, "tolist", lambda v=value: v)(), name, where) != expected:
            raise DataError(
                f"{where} says {name} {value}, found it as number {index} with {steps} rewards: expected the two to "
                "agree; download or copy the dataset again"
            )


def read_hdf5(data: Path, n_episodes: int, observations: gym.Space[Any], actions: gym.Space[Any]) -> Iterator[Episode]:
    """Yield the episodes of `main_data.hdf5`: one group `episode_<i>` each; entries of a Tuple are `_index_<j>`."""
    path = data / "main_data.hdf5"
    with damaged_file(path), open_hdf5(path, images=True) as file:
        images = Declared(path, path.stat().st_size)
        _check_names([name for name in file if name.startswith("episode_")], n_episodes, "episode_", path)
        for index in range(n_episodes):
            where = f"{path}: episode_{index}"
            group = file[f"episode_{index}"]
            rewards = group["rewards"][()]
            steps = len(rewards)
            terminated, truncated = ending(group["terminations"][()], group["truncations"][()], steps, where)
            _check_metadata(group.attrs, index, steps, where)

            def read(leaf: LeafPath, space: Any, group: Any = group) -> NDArray[Any]:
                column = group["/".join(f"_index_{key}" if isinstance(key, int) else key for key in leaf)]
                if is_encoded(column, space):
                    return decode(column, space, images)  # row by row: all may be the same large one
                found: NDArray[Any] = column[()]
                return found

            yield Episode(
                observations=_nested(observations, read, ("observations",)),
                actions=_nested(actions, read, ("actions",)),
                rewards=rewards,
                terminated=terminated,
                truncated=truncated,
            )


def read_tables(
    file_format: str, data: Path, n_episodes: int, observations: gym.Space[Any], actions: gym.Space[Any]
) -> Iterator[Episode]:
    """Yield the episodes of Arrow or Parquet tables: one folder `<i>` each; entries of a Tuple are `<j>`.

    A table has T + 1 rows, one for each observation. Actions, rewards and flags have one row of padding, dropped here.
    """
    with damaged_file(data):
        _check_names([child.name for child in data.iterdir() if child.name.isdecimal()], n_episodes, "", data)
    declared = Declared(data)
    for index in range(n_episodes):
        folder = data / str(index)
        with damaged_file(folder):
            # By length first, so that part-10 comes after part-9.
            parts = sorted(folder.glob("part-*"), key=lambda part: (len(part.name), part.name))
            columns = ["observations", "actions", "rewards", "terminations", "truncations"]
            table = read_table(parts, columns, file_format, declared)
            facts = io.read_json(folder / "metadata.json")
            # Without the metadata the last row is taken for the final observation.
            steps = whole_number(facts.get("total_steps", table.num_rows - 1), "total_steps", str(folder))
            if table.num_rows not in (steps, steps + 1):
                raise DataError(
                    f"{folder}: metadata.json says total_steps {steps}, the table has {table.num_rows} rows: expected "
                    "as many, or one more for the last observation; download or copy the dataset again"
                )
            _check_metadata(facts, index, steps, str(folder))
            # An episode may span several record batches.
            whole = {name: table[name].combine_chunks() for name in columns}
            rewards, terminations, truncations = (numbers(whole[name].slice(0, steps), name) for name in columns[2:])
            whole["actions"] = whole["actions"].slice(0, steps)

            def read(leaf: LeafPath, space: Any, whole: dict[Any, Any] = whole) -> NDArray[Any]:
                column = descend(whole[leaf[0]], leaf[1:])
                if str(column.type) in ("binary", "large_binary"):
                    return decode(column.to_pylist(), space, declared)
                return numbers(column, str(leaf[0]))

            terminated, truncated = ending(terminations, truncations, steps, str(folder))
            episode = Episode(
                observations=_nested(observations, read, ("observations",)),
                actions=_nested(actions, read, ("actions",)),
                rewards=rewards,
                terminated=terminated,
                truncated=truncated,
            )
        # Outside `damaged_file`: an exception of the consumer is not a damaged file.
        yield episode


READERS: dict[str, Callable[[Path, int, gym.Space[Any], gym.Space[Any]], Iterator[Episode]]] = {
    "hdf5": read_hdf5,
    "arrow": partial(read_tables, "arrow"),
    "parquet": partial(read_tables, "parquet"),
}
