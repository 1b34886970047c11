"""Minari datasets: search, metadata and spaces.

Layout: `<root>/<id>/data/metadata.json` beside `main_data.hdf5` (one group for each episode) or, for Arrow and Parquet,
one folder for each episode. The files are read directly. Minari's own iterator takes twice as long because it decodes
the infos. Its Arrow reader cuts an episode that spans two batches (Minari issue 351).
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from snn_dt import io, named, release
from snn_dt.data.flags import whole_number
from snn_dt.data.scores import ReferenceScores, environment_reference
from snn_dt.data.source import DataSource, Located, ReadOptions, Source
from snn_dt.errors import DataError, SnnDtError, did_you_mean
from snn_dt.registry import DATA_SOURCES

_log = logging.getLogger("snn_dt")


def roots() -> list[Path]:
    """Return the folders that are searched: Minari's own, then what ships with the package and what was fetched."""
    # The same rule as Minari's, without importing it.
    own = Path(os.environ.get("MINARI_DATASETS_PATH") or io.home() / ".minari" / "datasets")
    others = named.shipped("datasets"), release.cache("datasets")
    return [own, *(root for root in others if root.is_dir())]


def local_datasets() -> dict[str, Path]:
    """Return the datasets of all roots as {id: folder}. Hidden folders are skipped."""
    found: dict[str, Path] = {}
    for root in reversed(roots()):  # the first root wins
        for folder, children, _ in os.walk(root):
            if "data" in children:
                children.clear()  # a dataset: do not descend
                found[Path(folder).relative_to(root).as_posix()] = Path(folder)
            children[:] = [child for child in children if not child.startswith(".")]
    return dict(sorted(found.items()))


def _locate(dataset_id: str, download: bool) -> Located:
    """Find `minari:<id>` in the roots, or raise `DataError`. The network is used only with `download`."""
    if io.is_folder(roots()[0] / dataset_id / "data"):
        return _located(roots()[0] / dataset_id)
    if (found := named.find("datasets", dataset_id)) is not None:
        return _located(found)
    if download:
        return _located(_download(dataset_id))
    known = local_datasets()
    near = did_you_mean(dataset_id, known) if known else ""
    raise DataError(
        f"no Minari dataset {dataset_id!r} in {' or '.join(map(str, roots()))}; to download it: "
        f"snn-dt data cache minari:{dataset_id} --download, minari download {dataset_id}, or from a release: "
        f"--release FOLDER or ADDRESS{near}"
    )


def _locate_folder(spec: str, download: bool) -> Located:
    """Find a dataset by its folder, or raise `DataError`."""
    path = io.expand(spec, DataError)
    if io.is_file(path / "data" / "metadata.json"):
        return _located(path)
    if spec.startswith("datasets/") and not path.exists():  # a preset's dataset, outside a clone
        return _locate(spec.removeprefix("datasets/"), download)
    shipped = ("minari", "d4rl", "ogbench", "atari")
    own = "".join(f"{name}:<name>, " for name in DATA_SOURCES.names() if name not in shipped)
    near = f"; did you mean 'minari:{spec}'?" if spec in local_datasets() else ""  # an id without its prefix
    raise DataError(
        f"no dataset at {spec!r}: expected {own}minari:<id>, d4rl:<id>, d4rl:<path>.hdf5, ogbench:<name> or a folder "
        f"that holds data/metadata.json{near}"
    )


def _located(path: Path) -> Located:
    files = sorted(file for file in (path / "data").rglob("*") if file.is_file())
    return Located("/".join(path.resolve().parts[-3:]), path, files)


def _download(dataset_id: str) -> Path:
    """Fetch a dataset with Minari's own client into Minari's root, or raise `DataError`."""
    # Checked here, so that the message names the variable.
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise DataError(f"cannot download Minari dataset {dataset_id!r}: HF_HUB_OFFLINE is set; unset it to go online")
    import minari

    try:
        minari.download_dataset(dataset_id)
    except ImportError as error:
        raise DataError(f"downloading from Minari needs the hub extra: pip install 'snn-dt[hub]' ({error})") from error
    except Exception as error:  # the HTTP stack raises many kinds
        reason = " ".join(str(error).split())
        raise DataError(
            f"could not download Minari dataset {dataset_id!r} ({reason}): check the id with minari list remote, "
            "and the network"
        ) from error
    return roots()[0] / dataset_id


def _read(located: Located, options: ReadOptions) -> Source:
    """Return a dataset as a stream of episodes; raises `DataError` for kinds that cannot be used."""
    from snn_dt.data.minari_episodes import READERS
    from snn_dt.data.spaces import check_supported, clean_env_spec, space_notes

    path = located.path
    facts = metadata(path)
    dataset_id = str(facts.get("dataset_id") or path.name)
    if not dataset_id.isprintable():  # it would control the terminal
        raise DataError(f"{path}: expected a dataset_id that can be printed, found {dataset_id!r:.80}; correct it")
    env_id, env_spec, time_limit = clean_env_spec(facts.get("eval_env_spec") or facts.get("env_spec"))
    _compare_specs(facts, dataset_id)
    observation_space, action_space = _spaces(facts, dataset_id, options.trust)
    check_supported(observation_space, action_space, dataset_id)
    data_format = facts.get("data_format", "hdf5")
    if data_format not in [*READERS]:
        raise DataError(f"dataset {dataset_id!r} has format {data_format!r}: expected one of {', '.join(READERS)}")
    n_episodes = facts["total_episodes"]
    reference, notes = _reference(facts, dataset_id, env_id)

    def episodes() -> Iterator[Any]:
        return READERS[data_format](path / "data", n_episodes, observation_space, action_space)

    return Source(
        dataset_id=dataset_id,
        observation_space=observation_space,
        action_space=action_space,
        env_id=env_id,
        env_spec=env_spec,
        time_limit=time_limit,
        reference=reference,
        n_episodes=n_episodes,
        episodes=episodes,
        n_steps=facts.get("total_steps"),
        notes=notes + space_notes(observation_space),
    )


def metadata(path: Path) -> dict[str, Any]:
    """Return `data/metadata.json` of the dataset in folder `path`, or raise `DataError`."""
    file = path / "data" / "metadata.json"
    try:
        facts = io.read_json(file)
        counts = {"total_episodes": facts["total_episodes"], "total_steps": facts.get("total_steps")}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot use {file}: expected Minari's metadata with total_episodes, found {error!r}; "
            "download or copy the dataset again"
        ) from error
    # `total_steps` may be missing in old datasets.
    for name, count in counts.items():
        if count is not None or name == "total_episodes":
            whole_number(count, name, str(file))
    return dict(facts)


def _compare_specs(facts: dict[str, Any], dataset_id: str) -> None:
    """Warn if the evaluation environment of a dataset differs from the recorded one."""
    from snn_dt.data.spaces import clean_env_spec

    recorded, evaluated = (clean_env_spec(facts.get(key))[1] for key in ("env_spec", "eval_env_spec"))
    if recorded and evaluated:
        before, after = json.loads(recorded), json.loads(evaluated)
        # The fields that change the task; the rest describes the package.
        keys = ("id", "max_episode_steps", "kwargs", "additional_wrappers")
        differ = [
            f"{key} {before.get(key)}, then {after.get(key)}" for key in keys if before.get(key) != after.get(key)
        ]
        if differ:
            _log.warning(
                "%s names another environment for evaluation (eval_env_spec) than it was recorded in (env_spec): %s; "
                "the policy is evaluated in the former",
                *(dataset_id, "; ".join(differ)[:500]),
            )


def _spaces(facts: dict[str, Any], dataset_id: str, trust: bool) -> tuple[Any, Any]:
    """Return (observation space, action space) of the metadata or of the environment that they name."""
    from minari.serialization import deserialize_space

    from snn_dt.data.env_spec import parse_spec
    from snn_dt.data.recorded_env import make_recorded

    try:
        if "observation_space" in facts and "action_space" in facts:
            return deserialize_space(facts["observation_space"]), deserialize_space(facts["action_space"])
        if not facts.get("env_spec"):
            raise ValueError("neither spaces nor an env_spec")
        env = make_recorded(parse_spec(facts["env_spec"]), "its metadata", trust=trust)
        env.close()
        return env.observation_space, env.action_space
    except (Exception, SystemExit) as error:  # making an environment runs code of other packages
        reason = str(error) if isinstance(error, SnnDtError) else repr(error)
        raise DataError(
            f"cannot tell the spaces of dataset {dataset_id!r}: expected observation_space and action_space, as Minari "
            f"writes them, in its metadata, or an environment that can be made, found: {reason}; add the two spaces, "
            "or download or copy the dataset again"
        ) from error


def _reference(
    facts: dict[str, Any], dataset_id: str, env_id: str | None
) -> tuple[ReferenceScores | None, tuple[str, ...]]:
    """Return (reference scores, notes)."""
    low, high = facts.get("ref_min_score"), facts.get("ref_max_score")
    # Without returns in the metadata D4RL's table may know the environment.
    if low is None or high is None:
        return environment_reference(env_id), ()
    try:
        return ReferenceScores(float(low), float(high), f"metadata of {dataset_id}"), ()
    except (TypeError, ValueError, ArithmeticError, DataError) as error:
        note = f"the reference returns in the metadata of {dataset_id} are not used: {error}"
        return environment_reference(env_id), (note,)


MINARI = DataSource(_locate, _read)
FOLDER = DataSource(_locate_folder, _read)
