"""Table of the public datasets that can be named: what they hold, what evaluates them, and how they are trained.

Facts that are not known are None. Sources: Minari's dataset pages and `EnvSpec`s, D4RL's registrations and files,
OGBench's README, the scripts that made Minari's Atari sets. Targets are those of the Decision Transformer (arXiv
2106.01345; Atari: its code) and of CORL, in environment units.

`O` observation columns, `A` action columns or choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import product
from typing import Any

from snn_dt.data.atari_scores import ATARI_SCORES

PRESET = "d4rl/base"
"""The published sizes: K = 20, width 128, three layers, one head, 100,000 updates of 64 windows."""
MUJOCO, ROBOTICS, OGBENCH, ATARI = "mujoco", "robotics", "ogbench", "atari"
PACKAGES = {MUJOCO: "mujoco", ROBOTICS: "gymnasium_robotics", OGBENCH: "ogbench", ATARI: "ale_py"}
"""The module that tells whether an extra is installed."""
PIP = {
    MUJOCO: "pip install 'snn-dt[mujoco]'",
    ROBOTICS: "pip install 'snn-dt[robotics]'",
    OGBENCH: "pip install ogbench",
    ATARI: "pip install 'snn-dt[atari]'",
}


@dataclass(frozen=True)
class PublicSet:
    """One public dataset.

    Attributes:
        dataset: its name for `data.dataset`.
        columns: O and A; None if not known.
        steps: environment steps.
        targets: published target returns; empty takes the best return of the data.
    """

    dataset: str
    columns: tuple[int, int] | None = None
    steps: int | None = None
    targets: tuple[float, ...] = ()


@dataclass(frozen=True)
class Family:
    """Datasets that share spaces of one kind, an environment package and settings.

    Attributes:
        spaces: what is observed and done, in words.
        extra: key of `PACKAGES` that evaluation needs; None: `barrier` says why it is not possible.
        barrier: why the sets cannot be evaluated or loaded, else "".
        loads: whether the sets can be learned from.
        settings: flags beside those of `preset`.
        note: what a user should know before comparing numbers.
        preset: its name.
    """

    name: str
    spaces: str
    sets: tuple[PublicSet, ...]
    extra: str | None = None
    barrier: str = ""
    loads: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""
    preset: str = PRESET

    def command(self, public: PublicSet) -> str:
        """Return the command that trains and evaluates with the published settings."""
        flags = {"data.dataset": public.dataset, **self.settings}
        if public.targets:
            flags["eval.target_return"] = " ".join(f"{target:g}" for target in public.targets)
        return " ".join(["snn-dt train", self.preset, *(f"--{name} {value}" for name, value in flags.items())])

    def evaluation(self) -> str:
        """Return "yes" if this installation can evaluate the sets, else what is missing."""
        if self.extra is None or not self.loads:
            return f"no: {self.barrier}"
        if find_spec(PACKAGES[self.extra]) is None:
            return PIP[self.extra]
        return f"no: {self.barrier}" if self.barrier and not _old_mujoco() else "yes"


def _old_mujoco() -> bool:
    """Return whether the installed MuJoCo is older than 4, as kitchen's environment requires."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return int(version("mujoco").split(".")[0]) < 4
    except PackageNotFoundError:
        return False


_GYM_TARGETS = {"hopper": (3600.0, 1800.0), "halfcheetah": (12000.0, 6000.0), "walker2d": (5000.0, 2500.0)}
_ADROIT = {"pen": (45, 24), "door": (39, 28), "hammer": (46, 26), "relocate": (39, 30)}
_ADROIT_TARGETS = {
    "pen": (3100.0, 1550.0),
    "door": (2900.0, 1450.0),
    "hammer": (12800.0, 6400.0),
    "relocate": (4300.0, 2150.0),
}
_MUJOCO_COLUMNS = {
    "ant": (105, 8),
    "halfcheetah": (17, 6),
    "hopper": (11, 3),
    "humanoid": (348, 17),
    "inverteddoublependulum": (9, 1),
    "invertedpendulum": (4, 1),
    "pusher": (23, 7),
    "reacher": (10, 2),
    "swimmer": (8, 2),
    "walker2d": (17, 6),
}
_ANTMAZES = ("umaze", "umaze-diverse", "medium-play", "medium-diverse", "large-play", "large-diverse")
_MILLION = 1_000_000
# No scale: the largest return-to-go of the data, as rewards are not those of locomotion.
_OWN_SCALE = {"data.rtg_scale": "null"}
_GOALS = {**_OWN_SCALE, "model.condition": "goal", "data.relabel_goals": "0.5"}


def _mujoco() -> Iterator[PublicSet]:
    for (env, columns), level in product(_MUJOCO_COLUMNS.items(), ("simple", "medium", "expert")):
        yield PublicSet(f"minari:mujoco/{env}/{level}-v0", columns, None, _GYM_TARGETS.get(env, ()))


def _d4rl_gym() -> Iterator[PublicSet]:
    kinds = ("random", "medium", "expert", "medium-replay", "full-replay", "medium-expert")
    for (env, columns), kind in product({**_MUJOCO_COLUMNS, "ant": (111, 8)}.items(), kinds):
        if env in (*_GYM_TARGETS, "ant"):
            steps = None if "replay" in kind else (2 if kind == "medium-expert" else 1) * _MILLION
            yield PublicSet(f"d4rl:{env}-{kind}-v2", columns, steps, _GYM_TARGETS.get(env, ()))


def _adroit(pattern: str) -> tuple[PublicSet, ...]:
    known = {("door", "human"): 6729, ("door", "cloned"): _MILLION, ("relocate", "cloned"): _MILLION}
    return tuple(
        PublicSet(pattern.format(env=env, kind=kind), columns, known.get((env, kind)), _ADROIT_TARGETS[env])
        for (env, columns), kind in product(_ADROIT.items(), ("human", "cloned", "expert"))
    )


def _atari(pong: bool) -> Iterator[PublicSet]:
    """Yield the games with a human return; Pong is trained with other settings."""
    targets = {"breakout": (90.0,), "seaquest": (1150.0,), "qbert": (14000.0,), "pong": (20.0,)}
    for game in ATARI_SCORES:
        if (game == "pong") == pong:
            yield PublicSet(f"atari:{game}/expert-v0", None, None, targets.get(game, ()))


def _ogbench() -> Iterator[PublicSet]:
    mazes = ("medium", "large", "giant", "teleport")
    names = [f"{body}-{maze}" for body, maze in product(("pointmaze", "antmaze"), mazes)]
    names += [f"humanoidmaze-{maze}" for maze in mazes[:3]] + ["antsoccer-arena", "antsoccer-medium"]
    yield from (PublicSet(f"ogbench:{name}-{kind}-singletask-v0") for name, kind in product(names, _WALKS))
    things = [f"cube-{n}" for n in ("single", "double", "triple", "quadruple")] + ["scene"]
    things += [f"puzzle-{n}" for n in ("3x3", "4x4", "4x5", "4x6")]
    yield from (PublicSet(f"ogbench:{name}-{kind}-singletask-v0") for name, kind in product(things, ("play", "noisy")))


_WALKS = ("navigate", "stitch")
_REWARDS = "door, hammer, relocate: rewards of AdroitHand*-v1 changed in gymnasium-robotics 1.2.1 (v2: from 1.4.3)"
_FRAMES = "ten episodes of an expert per game, not the DQN replay data of the paper; targets are those of its code"
_FLAT = "no environment emits D4RL's flat observation now; minari:D4RL/{} can be evaluated"

FAMILIES: tuple[Family, ...] = (
    Family(
        "minari-mujoco", "Box -> Box", tuple(_mujoco()), MUJOCO, settings=_OWN_SCALE,
        note="v5 environments, not D4RL's data; not every level exists for every environment",
    ),
    Family(
        "minari-adroit", "Box -> Box", _adroit("minari:D4RL/{env}/{kind}-v2"), ROBOTICS,
        settings=_OWN_SCALE, note=_REWARDS,
    ),
    Family(
        "minari-kitchen", "Dict of Dict -> Box",
        (
            PublicSet("minari:D4RL/kitchen/complete-v2"), PublicSet("minari:D4RL/kitchen/partial-v2"),
            PublicSet("minari:D4RL/kitchen/mixed-v2", (83, 9), 156_560),
        ),
        ROBOTICS, "FrankaKitchen-v1 needs mujoco<4", settings=_OWN_SCALE,
    ),
    Family(
        "minari-pointmaze", "Dict with goals -> Box",
        tuple(PublicSet(f"minari:D4RL/pointmaze/{maze}{dense}-v2", (8, 2))
              for maze, dense in product(("open", "umaze", "medium", "large"), ("", "-dense"))),
        ROBOTICS, settings=_GOALS,
        note="collected anew; rewards and ends differ from D4RL's maze2d; plans have the published condition, return",
    ),
    Family(
        "minari-antmaze", "Dict with goals -> Box",
        tuple(PublicSet(f"minari:D4RL/antmaze/{maze}-v1", (31, 8), _MILLION) for maze in _ANTMAZES),
        ROBOTICS, settings=_GOALS,
        note="collected anew, about 605 MB each; v0 is faulty; plans have the published condition, return",
    ),
    Family(
        "minari-minigrid", "Dict of Discrete, Box, Text -> Discrete",
        (PublicSet("minari:D4RL/minigrid/fourrooms-v0"), PublicSet("minari:D4RL/minigrid/fourrooms-random-v0")),
        barrier="the mission is Text, which is refused; d4rl:minigrid-fourrooms-v0 has none", loads=False,
    ),
    Family(
        "d4rl-gym", "Box -> Box", tuple(_d4rl_gym()), MUJOCO, note="rollouts are in v5 (Ant: v4), D4RL's were in v2",
    ),
    Family(
        "d4rl-adroit", "Box -> Box", _adroit("d4rl:{env}-{kind}-v1"), ROBOTICS, settings=_OWN_SCALE, note=_REWARDS,
    ),
    Family(
        "d4rl-kitchen", "Box -> Box",
        tuple(PublicSet(f"d4rl:kitchen-{kind}-v0", (60, 9)) for kind in ("complete", "partial", "mixed")),
        barrier=_FLAT.format("kitchen"), settings=_OWN_SCALE,
    ),
    Family(
        "d4rl-antmaze", "Box -> Box",
        tuple(PublicSet(f"d4rl:antmaze-{maze}-v2", (29, 8), _MILLION, (1.0, 0.5)) for maze in _ANTMAZES),
        barrier=_FLAT.format("antmaze"), settings=_OWN_SCALE,
    ),
    Family(
        "d4rl-maze2d", "Box -> Box",
        tuple(PublicSet(f"d4rl:maze2d-{maze}{dense}-v1", (4, 2), None, () if dense else (280.0, 140.0))
              for maze, dense in product(("umaze", "medium", "large"), ("", "-dense"))),
        barrier=_FLAT.format("pointmaze"), settings=_OWN_SCALE,
    ),
    Family(
        "d4rl-minigrid", "Box of bytes -> Discrete",
        (PublicSet("d4rl:minigrid-fourrooms-v0", (147, 7)), PublicSet("d4rl:minigrid-fourrooms-random-v0", (147, 7))),
        barrier="Gymnasium has no such environment; name one with --eval.env_id", settings=_OWN_SCALE,
    ),
    Family(
        "minari-atari", "frames of 84 x 84 -> Discrete", tuple(_atari(pong=False)), ATARI, note=_FRAMES, preset="atari",
    ),
    Family(
        "minari-atari-pong", "frames of 84 x 84 -> Discrete", tuple(_atari(pong=True)), ATARI,
        settings={"model.context_length": 50, "train.batch_size": 512}, note=_FRAMES, preset="atari",
    ),
    Family(
        "ogbench", "Box -> Box", tuple(_ogbench()), OGBENCH, settings=_OWN_SCALE,
        note="-singletask-task1-v0 to -task5-v0 name a task; without a number it is OGBench's default one",
    ),
)  # fmt: skip


def find_set(dataset: str) -> tuple[Family, PublicSet] | None:
    """Return (family, set) of a dataset's name, or None."""
    return next(((f, public) for f in FAMILIES for public in f.sets if public.dataset == dataset), None)
