"""`load_dataset`: from the name of a dataset to trajectories."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_dt import io
from snn_dt.data import d4rl_source, minari_source
from snn_dt.data.atomic_dir import clear_abandoned
from snn_dt.data.builder import Progress
from snn_dt.data.cache import PREFIX, build_cached, build_in_memory, cache_folder, open_cached
from snn_dt.data.source import Source
from snn_dt.data.trajectories import RewardMode, Trajectories
from snn_dt.errors import DataError

if TYPE_CHECKING:
    import gymnasium as gym

_log = logging.getLogger("snn_dt")


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
    """Load a dataset as flat, memory-mapped arrays; the first time it is read and cached, later it is only opened.

    `spec`, text or a path, is one of

    - `minari:<id>`: in `$MINARI_DATASETS_PATH` (or `~/.minari/datasets`), then in `datasets/` of a checkout;
    - `d4rl:<id>` or `d4rl:<path>.hdf5`: an id is looked for in `$D4RL_DATASET_DIR` (or `~/.d4rl/datasets`);
    - the folder of a Minari dataset, as `datasets/sb3/cartpole/mixed-v0`.

    `reward_mode="delayed"` moves all of an episode's reward to its last step. `download=True` fetches a dataset that is
    missing. `cache=False` reads into memory and writes nothing. `progress(done, total)` is called after each episode.
    `action_space`: of the environment of a D4RL file, which does not name it; what is beyond its bounds is clipped.
    `trust=True`: a Minari dataset without spaces may name any environment to take them from, by entry points too; else
    only one that is registered with Gymnasium is made.

    What may be wrong with the data is logged as warnings, each time, and is in `.notes`.

    Raises `DataError` when the dataset is missing, damaged, or of a kind that cannot be learned from.
    """
    if reward_mode not in ("dense", "delayed"):
        raise DataError(f"unknown reward_mode {reward_mode!r}: expected 'dense' or 'delayed'")
    spec = str(spec)
    name, path, files = _locate(spec, download)
    d4rl = spec.startswith("d4rl:")
    space = action_space if d4rl else None
    found = None
    if cache:
        folder = cache_folder(name, path, files, reward_mode, space)
        clear_abandoned(folder.parent, PREFIX)
        found = open_cached(folder)
    if found is None:
        source: Source = d4rl_source.read(name, path, space) if d4rl else minari_source.read(path, trust)
        if cache:
            found = build_cached(source, folder, reward_mode, progress)
        else:
            found = build_in_memory(source, reward_mode, progress)
    for note in found.notes:
        _log.warning("dataset %s: %s", found.dataset_id, note)
    return found


def _locate(spec: str, download: bool) -> tuple[str, Path, list[Path]]:
    """Return (name, path, files below it whose change makes the cache stale)."""
    if spec.startswith("d4rl:"):
        name, path = d4rl_source.locate(spec.removeprefix("d4rl:"), download)
        return name, path, [path]
    if spec.startswith("minari:"):
        path = minari_source.locate(spec.removeprefix("minari:"), download)
    else:
        path = io.expand(spec, DataError)
        if not io.is_file(path / "data" / "metadata.json"):
            raise DataError(
                f"no dataset at {spec!r}: expected minari:<id>, d4rl:<id>, d4rl:<path>.hdf5 or a folder that holds "
                f"data/metadata.json{minari_source.hint(spec)}"
            )
    files = sorted(file for file in (path / "data").rglob("*") if file.is_file())
    return "/".join(path.resolve().parts[-3:]), path, files
