"""D4RL's dataset ids and the files behind them.

Source: `d4rl/infos.py` and the `register` calls of Farama-Foundation/D4RL. D4RL caches a file under the last part of
its address, so finding one by its id needs this table.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

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
