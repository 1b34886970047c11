"""The cache of flat arrays: a folder of `.npy` files and `meta.json` for each dataset, opened memory-mapped.

    $SNN_DT_CACHE or ~/.cache/snn_dt
    └── datasets/<name>-<key>/
        ├── meta.json
        └── observations.npy, actions.npy, rewards.npy, returns_to_go.npy, episode_offsets.npy, ...

The key names the source's path, the size and modification time of its files, the reward mode and `FORMAT_VERSION`, so
a changed source is another key. A folder is filled under a temporary name and renamed when it is complete: a reader
never sees half of one, and of two processes that build the same one the first to finish wins.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from snn_dt.data.builder import Progress, build
from snn_dt.data.scores import ReferenceScores
from snn_dt.data.source import Source
from snn_dt.data.trajectories import RewardMode, Trajectories
from snn_dt.data.unfinished import unfinished_folder
from snn_dt.errors import DataError
from snn_dt.user_cache import cache_root

FORMAT_VERSION = 1

_ARRAYS = (
    *("observations", "actions", "rewards", "returns_to_go", "episode_offsets"),
    *("terminated", "truncated", "state_mean", "state_std"),
)
_PER_STEP = _ARRAYS[:4]

_log = logging.getLogger("snn_dt")


def cache_folder(name: str, path: Path, files: list[Path], reward_mode: RewardMode) -> Path:
    """Return where the dataset `name`, stored in `files` below (or at) `path`, is or would be cached."""
    stats = [(str(file.relative_to(path)), (s := file.stat()).st_size, s.st_mtime_ns) for file in files]
    key = json.dumps([FORMAT_VERSION, name, str(path.resolve()), stats, reward_mode])
    slug = re.sub(r"[^A-Za-z0-9.]+", "_", name)[-80:]
    return cache_root() / "datasets" / f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def open_cached(folder: Path) -> Trajectories | None:
    """Return the dataset cached in `folder`, or None when there is none that can be read."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r" if n in _PER_STEP else None) for n in _ARRAYS}
        return _assemble(arrays, meta)
    except (OSError, ValueError, KeyError, DataError):
        return None


def build_cached(
    source: Source, folder: Path, reward_mode: RewardMode, progress: Progress | None = None
) -> Trajectories:
    """Build the dataset into `folder` and open it; where that cannot be written, build it in memory and say so."""
    try:
        with unfinished_folder(folder.parent, ".building-") as unfinished:
            _, checksum = build(source, unfinished, reward_mode, progress)
            (unfinished / "meta.json").write_text(json.dumps(_meta(source, reward_mode, checksum)))
            _publish(unfinished, folder)
    except OSError as error:
        return _without_cache(source, reward_mode, progress, error)
    return open_cached(folder) or build_in_memory(source, reward_mode)


def build_in_memory(source: Source, reward_mode: RewardMode, progress: Progress | None = None) -> Trajectories:
    """Build the dataset without a cache."""
    arrays, checksum = build(source, None, reward_mode, progress)
    return _assemble(arrays, _meta(source, reward_mode, checksum))


def _without_cache(source: Source, reward_mode: RewardMode, progress: Progress | None, error: OSError) -> Trajectories:
    _log.warning(
        "cannot cache dataset %r in %s (%s): reading it into memory instead; set SNN_DT_CACHE to a folder with room",
        *(source.dataset_id, cache_root(), error.strerror or error),
    )
    return build_in_memory(source, reward_mode, progress)


def _publish(unfinished: Path, folder: Path) -> None:
    """Rename a complete folder into place; an unreadable one that stands there is replaced, a good one is kept."""
    if folder.exists() and open_cached(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        os.replace(unfinished, folder)
    except OSError:
        if not folder.exists():
            raise


def _meta(source: Source, reward_mode: RewardMode, checksum: str) -> dict[str, Any]:
    from minari.serialization import serialize_space

    return {
        "dataset_id": source.dataset_id,
        "observation_space": serialize_space(source.observation_space),
        "action_space": serialize_space(source.action_space),
        "env_id": source.env_id,
        "env_spec": source.env_spec,
        "time_limit": source.time_limit,
        "reference": vars(source.reference) if source.reference else None,
        "reward_mode": reward_mode,
        "checksum": checksum,
    }


def _assemble(arrays: dict[str, Any], meta: dict[str, Any]) -> Trajectories:
    from minari.serialization import deserialize_space

    meta = dict(meta)
    for name in ("observation_space", "action_space"):
        meta[name] = deserialize_space(meta[name])
    reference = meta.pop("reference")
    return Trajectories(**arrays, **meta, reference=ReferenceScores(**reference) if reference else None)
