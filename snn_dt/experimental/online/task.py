"""The task of a run: environments in one array with actions in [-1, 1], and what learner and guide see of them.

Shapes: N environments; P observation columns; A action columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from snn_dt.data.registration import CRAZYFLIE_HOVER, ensure_registered
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.experimental.online.config import TaskConfig
from snn_dt.experimental.online.crazyflie import (
    ACTION_DIM,
    CrazyflieHoverVectorEnv,
    Perturbation,
    observation_size,
)

Vector = VectorEnv[Any, Any, Any]


@dataclass(frozen=True)
class Task:
    """A task with continuous actions. The learner sees the first `learner_dim` of `observation_dim` columns."""

    config: TaskConfig
    horizon: int
    observation_dim: int
    learner_dim: int
    action_dim: int

    @property
    def is_hover(self) -> bool:
        """Whether it is the drone of this package: only that has a scripted pilot and a curriculum of rewards."""
        return self.config.env_id == CRAZYFLIE_HOVER

    def columns(self, sees: str) -> int:
        """Return how many columns a guide sees: `plain` those of the learner, `privileged` all."""
        return self.learner_dim if sees == "plain" else self.observation_dim

    def make(self, count: int, training: bool = True, perturbed: bool = True) -> Vector:
        """Make N environments. A finished one waits for `reset(options={"reset_mask": [N] bool})`.

        Args:
            count: N.
            training: with the lengths and initial states of training flights, or with those of evaluation.
            perturbed: `hover`: drones that differ from the model as `config` says.
        """
        c = self.config
        horizon = min(c.flight or self.horizon, self.horizon) if training else self.horizon
        if not self.is_hover:
            return _gymnasium(c.env_id, count, horizon)
        spread = c.spread if c.training_spread is None or not training else c.training_spread
        differences = Perturbation(c.mass, c.thrust, c.rotor_lag, c.noise, c.delay)
        return CrazyflieHoverVectorEnv(
            *(count, horizon, "privileged", 1.0, spread),
            autoreset=False,
            perturb=differences if perturbed else Perturbation(),
            commands=c.commands,
        )


def make_task(config: TaskConfig) -> Task:
    """Return the task that `config` names.

    Raises:
        EnvironmentMismatchError: the environment cannot be made, or its spaces are not boxes of one axis.
    """
    if config.env_id == CRAZYFLIE_HOVER:
        seen, all_columns = (observation_size(kind, config.commands) for kind in ("plain", "privileged"))
        return Task(config, config.horizon or 500, all_columns, seen, ACTION_DIM)
    try:
        ensure_registered(config.env_id)
        made: Any = _gymnasium(config.env_id, 1, config.horizon)
    except Exception as error:  # a package's own error of any type
        raise EnvironmentMismatchError(
            f"task.env_id: expected a Gymnasium environment with bounded continuous actions, found "
            f"{config.env_id!r}: {' '.join(str(error).split())}; correct the id or install its package"
        ) from error
    seen, limit = made.single_observation_space, config.horizon or made.envs[0].spec.max_episode_steps
    actions = made.single_action_space.shape
    made.close()
    if not isinstance(seen, spaces.Box) or len(seen.shape) != 1 or len(actions) != 1 or not limit:
        raise EnvironmentMismatchError(
            f"task.env_id: expected observations and actions of one axis and a step limit, found {seen}, actions "
            f"{actions} and limit {limit} in {config.env_id!r}; wrap it, or set task.horizon"
        )
    columns = min(config.learner_columns or seen.shape[0], seen.shape[0])
    return Task(config, limit, seen.shape[0], columns, actions[0])


def _gymnasium(env_id: str, count: int, horizon: int) -> Vector:
    """Make N environments in this process, with actions from the bounds of the task to [-1, 1]."""

    def one() -> Any:
        env = gym.make(env_id, max_episode_steps=horizon or None, disable_env_checker=True)
        env = gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
        return gym.wrappers.DtypeObservation(env, np.float32)

    return gym.vector.SyncVectorEnv([one] * count, autoreset_mode=AutoresetMode.DISABLED)
