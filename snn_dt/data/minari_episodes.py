"""Readers of Minari's two layouts: a generator of episodes for each, with `data` the folder of the files.

`leaves` are the paths of the Boxes inside the observation space, in the order in which they are concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt import io
from snn_dt.data.hdf5 import open_hdf5
from snn_dt.data.source import Declared, Episode, damaged_file
from snn_dt.data.spaces import LeafPath
from snn_dt.data.tables import read_table


def _stack(leaves: list[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate leaf arrays [n, ...] to [n, obs_dim]; a leaf of shape [n] is one column."""
    flat = [leaf.reshape(len(leaf), -1) for leaf in leaves]
    return flat[0] if len(flat) == 1 else np.concatenate(flat, axis=1)


def read_hdf5(data: Path, n_episodes: int, leaves: Sequence[LeafPath]) -> Iterator[Episode]:
    """Yield the episodes of `main_data.hdf5`: group `episode_<i>`, a Tuple's entries named `_index_<j>`."""
    path = data / "main_data.hdf5"
    names = ["/".join(["observations", *(f"_index_{k}" if isinstance(k, int) else k for k in leaf)]) for leaf in leaves]
    with damaged_file(path), open_hdf5(path) as file:
        for index in range(n_episodes):
            group = file[f"episode_{index}"]
            yield Episode(
                observations=_stack([group[name][()] for name in names]),
                actions=group["actions"][()],
                rewards=group["rewards"][()],
                terminated=bool(group["terminations"][-1]),
                truncated=bool(group["truncations"][-1]),
            )


def read_tables(file_format: str, data: Path, n_episodes: int, leaves: Sequence[LeafPath]) -> Iterator[Episode]:
    """Yield the episodes of Arrow or Parquet tables: folder `<i>`, a Tuple's entries named `<j>`.

    Rows are T + 1, as many as observations: actions, rewards and flags are padded by one row, which is cut here.
    """
    declared = Declared(data)
    for index in range(n_episodes):
        folder = data / str(index)
        with damaged_file(folder):
            parts = sorted(folder.glob("part-*"), key=lambda part: (len(part.name), part.name))
            columns = ["observations", "actions", "rewards", "terminations", "truncations"]
            table = read_table(parts, columns, file_format, declared)
            steps = int(io.read_json(folder / "metadata.json").get("total_steps", table.num_rows - 1))
            observations = table["observations"].combine_chunks()
            episode = Episode(
                observations=_stack([_numbers(_descend(observations, leaf)) for leaf in leaves]),
                actions=_numbers(table["actions"].combine_chunks())[:steps],
                rewards=table["rewards"].to_numpy()[:steps],
                terminated=bool(table["terminations"][steps - 1].as_py()),
                truncated=bool(table["truncations"][steps - 1].as_py()),
            )
        yield episode


def _descend(array: Any, leaf: LeafPath) -> Any:
    for key in leaf:
        array = array.field(str(key))
    return array


def _numbers(array: Any) -> NDArray[Any]:
    """Return an Arrow array of numbers as [n], of lists of numbers as [n, d]."""
    if hasattr(array, "flatten") and hasattr(array.type, "value_type"):
        return np.asarray(array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1))
    return np.asarray(array.to_numpy(zero_copy_only=False))


READERS: dict[str, Callable[[Path, int, Sequence[LeafPath]], Iterator[Episode]]] = {
    "hdf5": read_hdf5,
    "arrow": partial(read_tables, "arrow"),
    "parquet": partial(read_tables, "parquet"),
}
