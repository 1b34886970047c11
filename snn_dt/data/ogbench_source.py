"""OGBench's single-task datasets: `ogbench:<name>-singletask[-task<n>]-v0`.

A file `<name>-v0.npz` holds flat arrays of trajectories one after another: `observations` [N, d], `actions` [N, a],
`terminals` [N] (1 at the last state of a trajectory, whose action leads nowhere), and `qpos` [N, q], `button_states`
[N, b] for the rewards. Rewards are not stored: OGBench's own `relabel_dataset` computes them for a task, so its package
is needed. They are the number of subgoals that are met, less the number of all; 0 means success.

The environment of a task ends at success, the recordings go on. So an episode here ends at the first successful state,
as terminated. Successful states that follow it are left out. The next episode begins where success is lost.

Source: Park et al. 2024, arXiv:2410.20092, and the package ogbench 1.2.2.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt import io
from snn_dt.data.file_faults import Declared, damaged_file
from snn_dt.data.flags import as_flags
from snn_dt.data.source import DataSource, Episode, Located, ReadOptions, Source
from snn_dt.data.spaces import check_supported, clean_env_spec
from snn_dt.errors import DataError

URL = "https://rail.eecs.berkeley.edu/datasets/ogbench"
_NEEDED = ("observations", "actions", "terminals")
_FACTS = ("qpos", "qvel", "button_states")


def split_name(name: str) -> tuple[str, str]:
    """Return (name of the file without its ending, id of the environment) of a single-task dataset.

    `antmaze-large-navigate-singletask-task1-v0` -> `antmaze-large-navigate-v0`, `antmaze-large-singletask-task1-v0`.

    Raises:
        DataError: the name has no task.
    """
    words = name.split("-")
    if ":" in name:  # Gymnasium would import what stands before it
        raise DataError(f"expected the name of a dataset of OGBench without a colon, found {name[:80]!r}; check it")
    if "singletask" not in words[2:-1]:
        raise DataError(
            f"expected a single-task dataset of OGBench, as antmaze-large-navigate-singletask-v0, found {name!r}: the "
            "others have goals and no reward; add -singletask or -singletask-task<n> before the version"
        )
    task = words.index("singletask")
    return "-".join([*words[:task], words[-1]]), "-".join([*words[: task - 1], *words[task:]])


def _locate(name: str, download: bool) -> Located:
    """Find the file of `<name>` in OGBench's folder, or of `<folder>/<name>`."""
    parent, _, short = name.rpartition("/")
    file, _ = split_name(short)
    folder = io.expand(parent, DataError) if parent else io.home() / ".ogbench" / "data"
    path = folder / f"{file}.npz"
    if not io.is_file(path) and download:
        _ogbench().download_datasets([file], str(folder))
    if not io.is_file(path):
        raise DataError(
            f"no file {path}: expected OGBench's dataset {file}; to download it: snn-dt data cache ogbench:{name} "
            f"--download, or get {URL}/{file}.npz"
        )
    return Located(short, path, [path])


def _read(located: Located, _options: ReadOptions) -> Source:
    """Return a file as a stream of episodes of its task."""
    import gymnasium

    _, env_id = split_name(located.dataset_id)
    _ogbench()
    try:
        env = gymnasium.make(env_id, disable_env_checker=True)
    except Exception as error:  # making an environment runs code of other packages
        reason = " ".join(str(error).split())
        raise DataError(
            f"expected an environment of OGBench for {located.dataset_id!r}, found: {reason}; check the name"
        ) from error
    env.close()
    check_supported(env.observation_space, env.action_space, located.dataset_id)
    assert env.spec is not None
    _, spec, limit = clean_env_spec(env.spec.to_json())
    arrays = read_arrays(located.path)
    ends = np.flatnonzero(as_flags(arrays["terminals"], "terminals", str(located.path))) + 1
    episodes = list(_episodes(arrays, ends, env_id))
    left = len(arrays["terminals"]) - int(ends[-1] if len(ends) else 0)
    return Source(
        dataset_id=located.dataset_id,
        observation_space=env.observation_space,
        action_space=env.action_space,
        env_id=env_id,
        env_spec=spec,
        time_limit=limit,
        reference=None,
        n_episodes=len(episodes),
        episodes=lambda: iter(episodes),
        clip_actions=True,
        notes=(f"{left:,} rows after the last end of a trajectory are left out",) if left else (),
    )


def _episodes(arrays: dict[str, NDArray[Any]], ends: NDArray[np.int64], env_id: str) -> Iterator[Episode]:
    """Yield the episodes; see the module docstring. `ends` are the rows after the trajectories."""
    rewards, over = _rewards(arrays, env_id)
    first = 0
    for end in ends:
        # The last state of a trajectory has no action.
        for start, stop, terminated in episode_bounds(over[first : end - 1]):
            rows = slice(first + start, first + stop)
            yield Episode(
                arrays["observations"][rows], arrays["actions"][rows], rewards[rows], terminated, not terminated
            )
        first = int(end)


def episode_bounds(over: NDArray[np.bool_]) -> Iterator[tuple[int, int, bool]]:
    """Yield (first step, step after the last, whether it ends in success) of the episodes of a trajectory.

    `over [T]` tells which steps are successful.
    """
    start = 0
    while start < len(over):
        if over[start] and start > 0 and over[start - 1]:
            start += 1  # success goes on
            continue
        hits = np.flatnonzero(over[start:])
        stop = start + int(hits[0]) + 1 if len(hits) else len(over)
        yield start, stop, bool(len(hits))
        start = stop


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an OGBench file; raises `DataError` for one of another layout."""
    with damaged_file(path):
        with zipfile.ZipFile(io.require_file(path)) as archive:
            Declared(path, path.stat().st_size).add(sum(item.file_size for item in archive.infolist()))
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*_NEEDED, *_FACTS) if name in file}
    if missing := [name for name in _NEEDED if name not in arrays]:
        raise DataError(f"{path} is not in OGBench's layout: it lacks {', '.join(missing)}")
    rows = {name: len(values) for name, values in arrays.items()}
    if len(set(rows.values())) > 1:
        raise DataError(f"{path} is not in OGBench's layout: expected as many rows in every array, found {rows}")
    return arrays


def _rewards(arrays: dict[str, NDArray[Any]], env_id: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return (reward, whether it is a success) of every row [N], by OGBench's own rules for the task of `env_id`."""
    import gymnasium

    facts: dict[str, Any] = dict(arrays)
    env = gymnasium.make(env_id, disable_env_checker=True)
    try:
        _ogbench().relabel_utils.relabel_dataset(env_id, env, facts)
    except (KeyError, ValueError) as error:
        raise DataError(
            f"expected qpos and button_states for the rewards of {env_id}, found: {error}; download the file again"
        ) from error
    finally:
        env.close()
    return np.asarray(facts["rewards"], np.float64), np.asarray(facts["masks"]) == 0


def _ogbench() -> Any:
    """Return the package, which registers its environments and computes rewards."""
    try:
        import ogbench
        import ogbench.relabel_utils
    except ImportError as error:
        raise DataError(f"rewards of OGBench's tasks need its package: pip install ogbench ({error})") from error
    return ogbench


OGBENCH = DataSource(_locate, _read)
