"""D4RL's files: table of dataset ids and URLs, search and download.

Source: `d4rl/infos.py` and the `register` calls of Farama-Foundation/D4RL. D4RL caches a file under the last part of
its URL, so this table is needed to find it by its id.
"""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from snn_dt import io
from snn_dt.data.source import Located
from snn_dt.errors import DataError, did_you_mean

_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"

_ADROIT_V0 = {"human": "{}-v0_demos_clipped", "cloned": "{}-demos-v0-bc-combined", "expert": "{}-v0_expert_clipped"}
_ANTMAZE = {
    "umaze": "u-maze_noisy_multistart_False_multigoal_False",
    "umaze-diverse": "u-maze_noisy_multistart_True_multigoal_True",
    "medium-play": "big-maze_noisy_multistart_True_multigoal_False",
    "medium-diverse": "big-maze_noisy_multistart_True_multigoal_True",
    "large-play": "hardest-maze_noisy_multistart_True_multigoal_False",
    "large-diverse": "hardest-maze_noisy_multistart_True_multigoal_True",
}
_KITCHEN = {
    "complete": "mini_kitchen_microwave_kettle_light_slider",
    "partial": "kitchen_microwave_kettle_light_slider",
    "mixed": "kitchen_microwave_kettle_bottomburner_light",
}


def _mujoco() -> Iterator[tuple[str, str]]:
    for env in ("halfcheetah", "hopper", "walker2d", "ant"):
        for kind in ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert"):
            for version in ("v1", "v2"):
                yield f"{env}-{kind}-{version}", f"gym_mujoco_{version}/{env}_{kind.replace('-', '_')}-{version}"
        for kind in ("random", "medium", "expert", "medium-expert"):
            yield f"{env}-{kind}-v0", f"gym_mujoco/{env}_{kind.replace('-', '_')}"
        yield f"{env}-medium-replay-v0", f"gym_mujoco/{'walker' if env == 'walker2d' else env}_mixed"
    yield "ant-random-expert-v0", "gym_mujoco/ant_random_expert"


def _adroit_and_kitchen() -> Iterator[tuple[str, str]]:
    for env, (kind, file) in product(("pen", "hammer", "door", "relocate"), _ADROIT_V0.items()):
        yield f"{env}-{kind}-v0", f"hand_dapg/{file.format(env)}"
        yield f"{env}-{kind}-v1", f"hand_dapg_v1/{env}-{kind}-v1"
    for kind, file in _KITCHEN.items():
        yield f"kitchen-{kind}-v0", f"kitchen/{file}-v0"


def _mazes() -> Iterator[tuple[str, str]]:
    for kind, file in _ANTMAZE.items():
        yield f"antmaze-{kind}-v0", f"ant_maze_new/Ant_maze_{file}_sparse"
        yield f"antmaze-{kind}-v2", f"ant_maze_v2/Ant_maze_{file}_sparse_fixed"
    for maze, (reward, infix) in product(("umaze", "medium", "large"), (("sparse", ""), ("dense", "-dense"))):
        yield f"maze2d-{maze}{infix}-v0", f"maze2d/maze2d-{maze}-{reward}"
        yield f"maze2d-{maze}{infix}-v1", f"maze2d/maze2d-{maze}-{reward}-v1"
        yield f"maze2d-eval-{maze}{infix}-v1", f"maze2d/maze2d-eval-{maze}-{reward}-v1"
    yield "maze2d-open-v0", "maze2d/maze2d-open-sparse"
    yield "maze2d-open-dense-v0", "maze2d/maze2d-open-dense"
    yield "minigrid-fourrooms-v0", "minigrid/minigrid4rooms"
    yield "minigrid-fourrooms-random-v0", "minigrid/minigrid4rooms_random"


URLS: dict[str, str] = {
    name: f"{_SERVER}/{path}.hdf5" for name, path in sorted([*_mujoco(), *_adroit_and_kitchen(), *_mazes()])
}
IDS: dict[str, str] = {url.rsplit("/", 1)[-1]: name for name, url in URLS.items()}  # cached file name -> id


def cache_folder() -> Path:
    """Return the folder where D4RL keeps its files."""
    return Path(os.environ.get("D4RL_DATASET_DIR") or io.home() / ".d4rl" / "datasets")


def local_datasets() -> list[str]:
    """Return the ids of the files in D4RL's folder."""
    return sorted(IDS.get(file.name, file.stem) for file in cache_folder().glob("*.hdf5"))


def locate(name: str, download: bool) -> Located:
    """Find the file of `<id>` or `<path>.hdf5`, or raise `DataError`."""
    dataset_id, path = _find(name, download)
    return Located(dataset_id, path, [path])


def _find(name: str, download: bool) -> tuple[str, Path]:
    """Return (dataset id, file).

    The file of an id is searched as D4RL does: the last part of its URL (`hopper_medium-v2.hdf5`), then `<id>.hdf5`.
    """
    # A path instead of an id.
    if name.endswith((".hdf5", ".h5")):
        path = io.expand(name, DataError)
        if not io.is_file(path):
            raise DataError(f"no file {str(path)!r}: expected the path of an HDF5 file in D4RL's layout")
        return IDS.get(path.name, path.stem), path
    folder, url = cache_folder(), URLS.get(name)
    files = [folder / file for file in ([url.rsplit("/", 1)[-1]] if url else []) + [f"{name}.hdf5"]]
    for path in files:
        if io.is_file(path):
            return name, path
    if url is None:
        raise DataError(f"unknown D4RL dataset {name!r}, and no file {files[0]}{did_you_mean(name, URLS)}")
    if download:
        return name, _download(url, files[0])
    raise DataError(
        f"no D4RL dataset {name!r}: expected {' or '.join(file.name for file in files)} in {folder}; to download it: "
        f"snn-dt data cache d4rl:{name} --download, or get {url}"
    )


def _download(url: str, path: Path) -> Path:
    """Fetch a file under a temporary name and rename it when it is complete."""
    # The process id keeps two downloads apart.
    part = path.with_name(path.name + f".part{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        urllib.request.urlretrieve(url, part)
        os.replace(part, path)
    except OSError as error:
        raise DataError(f"could not download {url} to {path} ({error}): check the network and the folder") from error
    finally:
        part.unlink(missing_ok=True)
    return path
