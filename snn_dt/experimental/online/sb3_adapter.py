"""Our vector environments in the form of stable-baselines3; imported only where that package is installed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from snn_dt.experimental.online.task import Vector


class Adapter(VecEnv):
    """N environments with masked resets as a `VecEnv`, which resets a finished row in the step that finishes it.

    Args:
        environment: does not reset by itself (`AutoresetMode.DISABLED`).
        columns: number of first observation columns that the policy sees.
        seed: row i of the first reset has seed `seed + i`.
    """

    def __init__(self, environment: Vector, columns: int, seed: int) -> None:
        self.environment, self.columns, self.first_seed = environment, columns, seed
        space = environment.single_observation_space
        assert isinstance(space, spaces.Box)
        seen = spaces.Box(space.low[:columns], space.high[:columns], dtype=np.float32)
        super().__init__(environment.num_envs, seen, environment.single_action_space)

    def reset(self) -> NDArray[np.float32]:
        """Begin all episodes."""
        seed = None if self.first_seed is None else self.first_seed
        return self.environment.reset(seed=seed)[0][:, : self.columns]

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Keep the actions for `step_wait`."""
        self.actions = actions

    def step_wait(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all rows and begin the next episode of the finished ones."""
        seen, rewards, terminated, truncated, _ = self.environment.step(self.actions)
        over = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if over.any():
            for i in np.flatnonzero(over):
                infos[i] = {
                    "terminal_observation": seen[i, : self.columns].copy(),
                    "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                }
            seen, _ = self.environment.reset(options={"reset_mask": over})
        return seen[:, : self.columns], rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Close the environments."""
        self.environment.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute, the same for every row."""
        return [getattr(self.environment, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of all rows."""
        setattr(self.environment, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        """Call a method of all rows."""
        return [getattr(self.environment, method_name)(*args, **options)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Sequence[int] | int | None = None) -> list[bool]:
        """Answer that no row is wrapped."""
        return [False] * self.num_envs


class Progress(BaseCallback):
    """Prints a line about every thirty rollouts: steps, and the mean reward of a step."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__()
        self.print, self.rollouts, self.begin = log, 0, time.monotonic()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.rollouts += 1
        if self.rollouts % 30 == 0:
            mean = float(self.locals["rollout_buffer"].rewards.mean())
            seconds = time.monotonic() - self.begin
            self.print(f"guide: {self.num_timesteps} steps, reward {mean:.3f} a step, {seconds:.0f} s")
