"""The cache of flat arrays: a folder of memory-mapped `.npy` files and a `meta.json` for each dataset.

    $SNN_DT_CACHE or ~/.cache/snn_dt
    └── datasets/<name>-<key>/
        ├── meta.json
        └── observations.npy, actions.npy, rewards.npy, returns_to_go.npy, episode_offsets.npy, ...

The key is a hash of the source's path, the size, times, inode and a content sample of its files, the reward mode and
`FORMAT_VERSION`. So a changed source has another key. A folder is filled under a temporary name, flushed to the disk
and renamed when it is complete. Readers never see an incomplete one. If two processes build the same one, the first to
finish wins.

`meta.json` holds digests of itself and of every array. They are compared on opening. For large arrays this is done
only if size or times of the file have changed since it was written. A damaged cache is built again with a warning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from snn_dt import io
from snn_dt.data.builder import Built, Progress, build
from snn_dt.data.columns import digest
from snn_dt.data.scores import ReferenceScores
from snn_dt.data.source import Located, Source
from snn_dt.data.trajectories import RewardMode, Trajectories
from snn_dt.errors import DataError

if TYPE_CHECKING:
    import gymnasium as gym

PREFIX = ".building-"
"""Prefix of the names of incomplete folders."""

FORMAT_VERSION = 2
MAX_CHECKED_BYTES = 16 << 20
"""Largest dataset, in bytes, whose digests are always compared."""
SAMPLED_FILES, SAMPLE_BYTES = 64, 4096
"""Number of files of a source that the key samples, and the size of each of the three samples of a file in bytes."""

_ARRAYS = (
    *("observations", "actions", "rewards", "returns_to_go", "episode_offsets"),
    *("terminated", "truncated", "state_mean", "state_std"),
)
_PER_STEP = _ARRAYS[:4]

_log = logging.getLogger("snn_dt")


def cache_folder(located: Located, reward_mode: RewardMode, action_space: gym.Space[Any] | None = None) -> Path:
    """Return the folder in which a dataset is or would be cached."""
    from minari.serialization import serialize_space

    name, path, files = located
    # Text that changes with the source, hashed below.
    stats = [(str(file.relative_to(path)), *_stamp(file)) for file in files]
    # At most SAMPLED_FILES of them, evenly spaced.
    sampled = [_sample(file) for file in files[:: -(-len(files) // SAMPLED_FILES) or 1]]
    options = [reward_mode, *([] if action_space is None else [serialize_space(action_space)])]
    key = json.dumps([FORMAT_VERSION, name, str(path.resolve()), stats, sampled, *options])
    # The name is for the reader of the folder; the key alone is unique.
    slug = re.sub(r"[^A-Za-z0-9.]+", "_", name)[-80:]
    return io.cache_root() / "datasets" / f"{slug}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _stamp(file: Path) -> list[int]:
    """Return the facts that change when a file is written or replaced. Copying tools cannot set `st_ctime`."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise DataError(f"expected a regular file at {file}, found none; download or copy the dataset again")
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _sample(file: Path) -> str:
    """Return a digest of samples at the beginning, the middle and the end of a file."""
    found = hashlib.sha256()
    with io.open_file(file) as content:
        end = content.seek(0, os.SEEK_END)
        for start in (0, end // 2, max(0, end - SAMPLE_BYTES)):
            content.seek(start)
            found.update(content.read(SAMPLE_BYTES))
    return found.hexdigest()


def open_cached(folder: Path) -> Trajectories | None:
    """Return the dataset cached in `folder`, or None if it is missing or damaged."""
    if not (folder / "meta.json").exists() and not folder.exists():
        return None
    try:
        meta = io.read_json(folder / "meta.json")
        if meta.pop("digest") != _digest(meta):
            raise ValueError("meta.json is not what was written")
        stamps, digests = meta.pop("stamps"), meta.pop("digests")
        now = {name: _stamp(folder / f"{name}.npy") for name in _ARRAYS}
        arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r" if n in _PER_STEP else None) for n in _ARRAYS}
        # Size and times as written vouch for a large file; otherwise its digest is compared.
        small = sum(stamp[0] for stamp in now.values()) <= MAX_CHECKED_BYTES
        for name, array in arrays.items():
            if (small or now[name][:3] != stamps[name][:3]) and digest(array) != digests[name]:
                raise ValueError(f"{name}.npy is not what was written")
        trajectories = _assemble(arrays, meta)
        _check_lengths(trajectories)
        return trajectories
    except Exception as error:  # each kind of damage raises its own kind; building again repairs all of them
        _log.warning("the cache in %s is damaged (%s) and is made again", folder, " ".join(str(error).split()))
        return None


def _digest(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _check_lengths(trajectories: Trajectories) -> None:
    """Raise `ValueError` for arrays that do not fit each other."""
    t, offsets = trajectories, trajectories.episode_offsets
    steps = {len(getattr(t, name)) for name in _PER_STEP}
    episodes = {len(t.terminated), len(t.truncated), len(offsets) - 1}
    widths = {*t.state_mean.shape, *t.state_std.shape, t.numbers}
    # Offsets begin at 0, increase and end at the number of steps.
    if steps != {int(offsets[-1])} or offsets[0] != 0 or (np.diff(offsets) < 1).any() or len(episodes) > 1:
        raise ValueError(f"arrays of {sorted(steps)} rows for {int(offsets[-1])} steps")
    if len(widths) > 1 or not np.isfinite(t.state_mean).all() or not (t.state_std > 0).all():
        raise ValueError("statistics that do not fit the observations")


def build_cached(
    source: Source, folder: Path, reward_mode: RewardMode, progress: Progress | None = None
) -> Trajectories:
    """Build the dataset into `folder` and open it. If it cannot be written, build in memory with a warning."""
    try:
        with io.unfinished_folder(folder.parent, PREFIX) as unfinished:
            built = build(source, unfinished, reward_mode, progress)
            meta = _meta(source, reward_mode, built)
            for name in _ARRAYS:
                io.sync_to_disk(unfinished / f"{name}.npy")
            # Stamps are taken after flushing: writing back may change the times.
            meta["stamps"] = {name: _stamp(unfinished / f"{name}.npy") for name in _ARRAYS}
            meta["digests"] = {name: built.digests[name] for name in _ARRAYS}
            (unfinished / "meta.json").write_text(json.dumps(meta | {"digest": _digest(meta)}))
            io.sync_to_disk(unfinished / "meta.json")
            io.sync_to_disk(unfinished)
            _publish(unfinished, folder)
            io.sync_to_disk(folder.parent)
    except OSError as error:
        return _without_cache(source, reward_mode, progress, error)
    return open_cached(folder) or build_in_memory(source, reward_mode)


def build_in_memory(source: Source, reward_mode: RewardMode, progress: Progress | None = None) -> Trajectories:
    """Build the dataset without a cache."""
    built = build(source, None, reward_mode, progress)
    return _assemble(built.arrays, _meta(source, reward_mode, built))


def _without_cache(source: Source, reward_mode: RewardMode, progress: Progress | None, error: OSError) -> Trajectories:
    _log.warning(
        "cannot cache dataset %r in %s (%s): reading it into memory instead; set SNN_DT_CACHE to a folder with room",
        *(source.dataset_id, io.cache_root(), error.strerror or error),
    )
    return build_in_memory(source, reward_mode, progress)


def _publish(unfinished: Path, folder: Path) -> None:
    """Rename a complete folder into place. A damaged folder there is replaced, a good one kept."""
    # Another process may have finished the same dataset first.
    if folder.exists() and open_cached(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        os.replace(unfinished, folder)
    except OSError:
        if not folder.exists():
            raise


def _meta(source: Source, reward_mode: RewardMode, built: Built) -> dict[str, Any]:
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
        "checksum": built.checksum,
        "notes": list(built.notes),
    }


def _assemble(arrays: dict[str, Any], meta: dict[str, Any]) -> Trajectories:
    from minari.serialization import deserialize_space

    meta = dict(meta)
    for name in ("observation_space", "action_space"):
        meta[name] = deserialize_space(meta[name])
    reference, notes = meta.pop("reference"), tuple(meta.pop("notes"))
    return Trajectories(**arrays, **meta, notes=notes, reference=ReferenceScores(**reference) if reference else None)
