"""Table of the D4RL tasks: shapes, time limits, Gymnasium environments and reference scores.

Source of the limits: the `register` calls of Farama-Foundation/D4RL.
"""

from __future__ import annotations

from dataclasses import dataclass

from snn_dt.data.scores import ReferenceScores, d4rl_reference


@dataclass(frozen=True)
class Task:
    """A D4RL task: its shapes, its time limit and the Gymnasium environment that replaces it.

    `env_id` is a convention, because D4RL measured in mujoco-py's `v2` (Walker2d differs most in `v5`). It is None if
    no current environment has D4RL's observation. Kitchen, maze2d and antmaze have Dict observations now.
    """

    obs_dim: int
    action_dim: int
    time_limit: int | None
    env_id: str | None = None
    discrete: bool = False


TASKS: dict[str, Task] = {
    "hopper": Task(11, 3, 1000, "Hopper-v5"),
    "halfcheetah": Task(17, 6, 1000, "HalfCheetah-v5"),
    "walker2d": Task(17, 6, 1000, "Walker2d-v5"),
    "ant": Task(111, 8, 1000, "Ant-v4"),  # v5 lacks six of D4RL's 111 numbers, see `env_spec`
    "pen": Task(45, 24, 100, "AdroitHandPen-v1"),
    "hammer": Task(46, 26, 200, "AdroitHandHammer-v1"),
    "door": Task(39, 28, 200, "AdroitHandDoor-v1"),
    "relocate": Task(39, 30, 200, "AdroitHandRelocate-v1"),
    "kitchen": Task(60, 9, 280),
    "antmaze": Task(29, 8, 1000),
    "maze2d": Task(4, 2, None),
    # 51, not the registered 50: the collecting script takes one more step before it ends an episode.
    "minigrid": Task(147, 7, 51, discrete=True),
}

_MAZE2D_LIMITS = {
    **{("open", "v0"): 150, ("umaze", "v0"): 150, ("medium", "v0"): 250, ("large", "v0"): 600},
    **{("umaze", "v1"): 300, ("medium", "v1"): 600, ("large", "v1"): 800},
}


CUT_AT_LIMIT = {"hopper", "halfcheetah", "walker2d", "ant"}
"""Tasks whose recordings never exceed the limit. Human demonstrations (Adroit, kitchen) and maze2d do."""


def task_name(dataset_id: str) -> str:
    """Return the key of `TASKS` that an id or a file's stem begins with (`hopper_medium-v2` -> hopper), or ''."""
    if dataset_id.startswith("Ant_maze"):
        return "antmaze"
    word = dataset_id.replace("_", "-").split("-")[0]
    return word if word in TASKS else ""


def time_limit(dataset_id: str) -> int | None:
    """Return the step limit of a dataset's environment, or None if the id does not determine it."""
    # maze2d's limits depend on maze and version.
    words = dataset_id.split("-")
    if words[0] == "maze2d":
        return next((n for (maze, version), n in _MAZE2D_LIMITS.items() if maze in words and version in words), None)
    if dataset_id.startswith("antmaze-umaze"):
        return 700
    task = TASKS.get(task_name(dataset_id))
    return task.time_limit if task else None


def reference(dataset_id: str, known: bool) -> ReferenceScores | None:
    """Return D4RL's reference scores of a dataset. `known`: the id is D4RL's, not only a file name."""
    task = task_name(dataset_id)
    # maze2d has scores for each dataset, the other tasks one pair.
    key = {"maze2d": dataset_id, "minigrid": "minigrid-fourrooms"}.get(task, task)
    return d4rl_reference(key) if known else d4rl_reference(key, "D4RL infos.py, task taken from the file name")


def env_spec(env_id: str | None) -> str | None:
    """Return the JSON spec of an environment that needs arguments for D4RL's observation, else None."""
    if env_id != "Ant-v4":
        return None
    import gymnasium as gym

    spec = gym.spec(env_id)
    # Contact forces are 84 of D4RL's 111 numbers.
    spec.kwargs["use_contact_forces"] = True
    return spec.to_json()
