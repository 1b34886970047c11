"""`load_dataset`: from the name of a dataset to trajectories."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from snn_dt import io
from snn_dt.data import atari, d4rl_source, minari_source, ogbench_source
from snn_dt.data.builder import Progress
from snn_dt.data.cache import PREFIX, build_cached, build_in_memory, cache_folder, open_cached
from snn_dt.data.source import DataSource, ReadOptions, Source
from snn_dt.data.trajectories import RewardMode, Trajectories
from snn_dt.errors import DataError, SnnDtError
from snn_dt.registry import DATA_SOURCES

if TYPE_CHECKING:
    import gymnasium as gym

_log = logging.getLogger("snn_dt")

DATA_SOURCES.add("minari", minari_source.MINARI)
DATA_SOURCES.add("d4rl", d4rl_source.D4RL)
DATA_SOURCES.add("ogbench", ogbench_source.OGBENCH)
DATA_SOURCES.add("atari", atari.ATARI)


def load_dataset(
    spec: str | Path,
    *,
    reward_mode: RewardMode = "dense",
    download: bool = False,
    cache: bool = True,
    progress: Progress | None = None,
    action_space: gym.Space[Any] | None = None,
    trust: bool = False,
) -> Trajectories:
    """Load a dataset as flat, memory-mapped arrays. The first call reads and caches it, later calls open the cache.

    `spec`, text or a path, is one of

    - `minari:<id>`: in `$MINARI_DATASETS_PATH` (or `~/.minari/datasets`), then in `datasets/` of a checkout;
    - `d4rl:<id>` or `d4rl:<path>.hdf5`: an id is looked for in `$D4RL_DATASET_DIR` (or `~/.d4rl/datasets`);
    - `atari:<game>/expert-v0`: the Minari dataset `atari/<game>/expert-v0` as gray frames of 84 x 84;
    - `ogbench:<name>-singletask-v0`: looked for in `~/.ogbench/data`, or `ogbench:<folder>/<name>`;
    - the folder of a Minari dataset, as `datasets/sb3/cartpole/mixed-v0`;
    - `<prefix>:<name>` of a source that was added with `snn_dt.register_data_source`.

    Arrays in memory become trajectories with `Trajectories.from_arrays`.

    Args:
        spec: the dataset.
        reward_mode: "delayed" moves the whole reward of an episode to its last step, "clipped" limits every reward to
            -1 to 1.
        download: fetch a dataset that is missing.
        cache: False reads into memory and writes nothing.
        progress: called as `progress(done, total)` after each episode.
        action_space: that of the environment of a D4RL file, which does not store it. Actions are clipped to it.
        trust: take the spaces of a Minari dataset without spaces from any environment that it names. Without trust only
            an environment that is registered with Gymnasium is made.

    Possible faults of the data are logged as warnings by each call, and are in `.notes`.

    Raises:
        DataError: the dataset is missing, damaged, or of a kind that cannot be learned from.
    """
    if reward_mode not in get_args(RewardMode):
        raise DataError(f"unknown reward_mode {reward_mode!r}: expected 'dense', 'delayed' or 'clipped'")
    source, name = _select(spec)
    if not isinstance(source, DataSource):
        return _read_function(source, name, reward_mode, progress)
    options = ReadOptions(action_space if source.takes_action_space else None, trust)
    found = _load(source, name, options, reward_mode, download, cache, progress)
    return _log_notes(found)


def _log_notes(trajectories: Trajectories) -> Trajectories:
    for note in trajectories.notes:
        _log.warning("dataset %s: %s", trajectories.dataset_id, note)
    return trajectories


def _select(spec: str | Path) -> tuple[Any, str]:
    """Return (entry of the table of data sources, name without the prefix)."""
    if not isinstance(spec, (str, Path)):
        raise DataError(_use_instead(spec))
    prefix, colon, name = str(spec).partition(":")
    # An unknown prefix may be part of a path, as in `C:/data`, and is reported by the folder source.
    if colon and prefix in DATA_SOURCES:
        return DATA_SOURCES[prefix], name
    return minari_source.FOLDER, str(spec)


def _use_instead(spec: Any) -> str:
    """Return the error message for something that is no name of a dataset."""
    if isinstance(spec, Trajectories):
        return (
            "expected the name of a dataset, found Trajectories, which are loaded already; use them as they are, as in "
            "snn_dt.train(config, data=trajectories)"
        )
    if isinstance(spec, Mapping):
        keys = ", ".join(map(str, spec))
        return (
            f"expected the name of a dataset, found a dictionary of {keys:.100}; use snn_dt.Trajectories.from_arrays("
            "observations, actions, rewards, terminations, truncations) for arrays"
        )
    return (
        f"expected the name of a dataset, found {type(spec).__name__}; for arrays use snn_dt.Trajectories.from_arrays, "
        "for a list of episodes snn_dt.Trajectories.from_episodes"
    )


def _load(
    source: DataSource,
    name: str,
    options: ReadOptions,
    reward_mode: RewardMode,
    download: bool,
    cache: bool,
    progress: Progress | None,
) -> Trajectories:
    located = source.locate(name, download)
    if not cache:
        return build_in_memory(source.read(located, options), reward_mode, progress)
    folder = cache_folder(located, reward_mode, options.action_space)
    # A killed process may have left a large incomplete folder.
    io.clear_abandoned(folder.parent, PREFIX)
    found = open_cached(folder)
    return build_cached(source.read(located, options), folder, reward_mode, progress) if found is None else found


def _read_function(read: Any, name: str, reward_mode: RewardMode, progress: Progress | None) -> Trajectories:
    """Return what a registered function reads. It is not cached, as no file tells when it changes."""
    try:
        found = read(name)
        if isinstance(found, Source):
            return _log_notes(build_in_memory(found, reward_mode, progress))
    except (SnnDtError, MemoryError):
        raise
    except Exception as error:  # the function is the user's code
        raise DataError(
            f"expected the data source of {name!r} to return Trajectories, found that it raised "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(found, Trajectories):
        raise DataError(f"expected Trajectories or a Source from the data source of {name!r}, found {found!r:.60}")
    # The rewards of finished trajectories cannot be moved any more.
    if found.reward_mode != reward_mode:
        raise DataError(
            f"expected reward_mode {reward_mode!r} from the data source of {name!r}, found {found.reward_mode!r}; let "
            "it return a snn_dt.data.source.Source, which serves both"
        )
    return found
