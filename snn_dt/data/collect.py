"""Collection of a dataset: roll out a policy and write a Minari folder."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from snn_dt import io
from snn_dt.data.builder import Progress
from snn_dt.data.checked_env import MAX_EPISODE_STEPS, Checked
from snn_dt.data.episode_recorder import record
from snn_dt.data.minari_source import roots
from snn_dt.data.scores import ReferenceScores
from snn_dt.errors import DataError

_log = logging.getLogger("snn_dt")
MIN_FREE = 32 << 20
"""Bytes that must be free on the disk beside a copy of the file; an episode of vectors is far smaller."""


def collect(
    env_id: str,
    policy: Callable[[Any], Any] | None = None,
    *,
    episodes: int,
    seed: int,
    dataset_id: str,
    root: str | Path | None = None,
    algorithm_name: str | None = None,
    reference: tuple[float, float] | None = None,
    progress: Progress | None = None,
    max_steps: int | None = None,
) -> Path:
    """Roll a policy out for whole episodes and write them as Minari dataset `dataset_id`; return its folder.

    The folder `<root>/<dataset_id>` appears when it is complete.

    Args:
        env_id: Gymnasium id or `module:Id`.
        policy: `policy(observation) -> action`; default: random actions. Its method `begin(episode)`, if it has one, is
            called before every episode.
        episodes: number of episodes.
        seed: episode i is reset with seed `seed + i`.
        dataset_id: Minari id with a version, `name-vN`.
        root: default: Minari's own root.
        algorithm_name: for the metadata.
        reference: returns that count as score 0 and 100.
        progress: called as `progress(done, total)` after each episode.
        max_steps: truncate an episode after this number of steps, with a warning. Default: the limit of the
            environment, else 100,000.

    Raises:
        DataError: the folder exists or cannot be written, the id is not valid, the environment cannot be made, the
            policy raises, or an action is outside the action space.
        EnvironmentMismatchError: the environment raises or breaks Gymnasium's interface.
    """
    import minari
    from minari.dataset.minari_storage import MinariStorage

    from snn_dt.data.spaces import check_supported

    folder = _new_folder(dataset_id, root)
    if reference:
        ReferenceScores(*reference, source="reference")  # its constructor checks the two returns
    env = _make(env_id, dataset_id, max_steps, seed)
    spec = _storable(env.env.spec, env_id)
    check_supported(env.observation_space, env.action_space, dataset_id)
    act = policy or (lambda observation: env.action_space.sample())
    metadata = {
        "dataset_id": dataset_id,
        "minari_version": minari.__version__,
        "algorithm_name": algorithm_name or ("random" if policy is None else getattr(policy, "__name__", "")),
        "description": f"{env_id}, {episodes} episodes, reset seeds {seed}..{seed + episodes - 1}",
        "requirements": ["gymnasium>=1.0"],
        **({"ref_min_score": reference[0], "ref_max_score": reference[1]} if reference else {}),
    }
    try:
        with closing(env), io.unfinished_folder(folder.parent, ".collecting-") as unfinished:
            space = env.observation_space
            # Minari's JPEG loses detail.
            storage = MinariStorage.new(unfinished / "data", space, env.action_space, spec, jpeg_encoding=False)
            storage.update_metadata(metadata)
            file = unfinished / "data" / "main_data.hdf5"
            for index in range(episodes):
                episode = record(env, act, seed + index, index)
                # Before each write: HDF5 must not meet a full disk.
                _check_free_space(file)
                storage.update_episodes([episode])
                if progress:
                    progress(index + 1, episodes)
            _check_free_space(file)
            _compress(file)
            os.replace(unfinished, folder)
        if env.cuts:
            _log.warning(
                "%d of %d episodes in %s were cut after %d steps and count as truncated: expected an environment that "
                "ends them; --max-steps sets another cap",
                *(env.cuts, episodes, env_id, env.max_steps),
            )
    except (OSError, RuntimeError) as error:  # RuntimeError: h5py cannot flush a file
        raise DataError(
            f"cannot write the dataset to {folder} ({' '.join(str(error).split())}): expected a folder that can be "
            "written, with room; choose another root, or free some"
        ) from error
    return folder


def _new_folder(dataset_id: str, root: str | Path | None) -> Path:
    """Return the folder of a new dataset, or raise `DataError` for a bad id or one that exists."""
    from minari.dataset.minari_dataset import parse_dataset_id

    if not re.search(r"-v\d+$", dataset_id):
        raise DataError(f"expected an id with a version, as mine/cartpole/random-v0, found {dataset_id!r}; add -v0")
    folder = io.expand(root or roots()[0], DataError).resolve() / dataset_id  # Minari joins a relative path twice
    if os.path.exists(folder):
        raise DataError(f"dataset {dataset_id!r} is already in {folder}: expected a new id; raise its version")
    try:
        parse_dataset_id(dataset_id)  # Minari's own check
    except (ValueError, TypeError) as error:  # TypeError: no version
        raise DataError(
            f"cannot collect {dataset_id!r}: expected an id such as mine/cartpole/random-v0, with a version; choose one"
        ) from error
    return folder


def _make(env_id: str, dataset_id: str, max_steps: int | None, seed: int) -> Checked:
    """Make the environment with the smallest of `max_steps`, its own limit, `MAX_EPISODE_STEPS`; seed its actions."""
    from snn_dt.data.registration import make_by_id

    if max_steps is not None and max_steps < 1:
        raise DataError(f"expected max_steps of at least 1, found {max_steps}; leave it out or raise it")
    try:
        made = make_by_id(env_id)
        limit = None if made.spec is None else made.spec.max_episode_steps
        env = Checked(made, min(n for n in (max_steps, limit, MAX_EPISODE_STEPS) if n))
        env.action_space.seed(seed)
        return env
    except (Exception, SystemExit) as error:  # making an environment runs code of other packages
        raise DataError(f"cannot collect {dataset_id!r} from {env_id!r}: {' '.join(str(error).split())}") from error


def _storable(spec: Any, env_id: str) -> Any:
    """Return a spec that JSON can hold. If the environment was registered with a class, only its id is kept."""
    import gymnasium as gym

    if spec is None:
        return None
    # `make_by_id` has disabled the environment checker; the recorded spec should not.
    if spec.id in gym.registry:
        spec = replace(spec, disable_env_checker=gym.registry[spec.id].disable_env_checker)
    if callable(spec.entry_point) or callable(spec.vector_entry_point):
        spec = replace(spec, entry_point=None, vector_entry_point=None)
    try:
        spec.to_json()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"cannot collect from {env_id!r}: expected an environment whose arguments and wrappers JSON can hold, "
            f"found: {' '.join(str(error).split())}; register it with plain ones"
        ) from error
    return spec


def _check_free_space(file: Path) -> None:
    """Raise `OSError` unless the disk has space for one more episode and a copy of `file`.

    On a full disk HDF5 2.0 ends the process with a segmentation fault.
    """
    if shutil.disk_usage(file.parent).free < file.stat().st_size + MIN_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _compress(path: Path) -> None:
    """Rewrite Minari's file with gzip, shuffle and checksums. This halves its size."""
    import h5py

    smaller = path.with_name("smaller.hdf5")
    with h5py.File(path) as old, h5py.File(smaller, "w", libver="latest") as new:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                # Scalars cannot be compressed.
                packed = {"compression": 9, "shuffle": True, "fletcher32": True} if item.shape else {}
                made = new.create_dataset(name, data=item[()], **packed)
            else:
                made = new.require_group(name)
            made.attrs.update(item.attrs)

        new.attrs.update(old.attrs)
        old.visititems(copy)
    smaller.replace(path)
