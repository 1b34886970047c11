"""A tiny environment of any spaces, which accepts only actions of its space, and a task in it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

OBSERVATIONS = spaces.Dict(
    {
        "kind": spaces.Discrete(3, start=-1),
        "levels": spaces.MultiDiscrete([2, 4], start=[1, 0]),
        "speed": spaces.Box(-1, 1),
    }
)
ACTIONS = spaces.Dict(
    {
        "gear": spaces.Discrete(3, start=1),
        "lamps": spaces.MultiBinary(2),
        "wheels": spaces.Tuple((spaces.Box(-2, 2, (1,)), spaces.MultiDiscrete([2, 4]))),
    }
)


class Echo(gym.Env[Any, Any]):
    """Random observations; the reward is the share of parts of the action that `answer(observation)` also has."""

    def __init__(self, observations: Any, actions: Any, answer: Any = None, steps: int = 5) -> None:
        self.observation_space, self.action_space = observations, actions
        self.answer, self.steps, self.n = answer, steps, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.n, self.last = 0, self.observation_space.sample()
        return self.last, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        reward = 1.0 if self.answer is None else share(self.action_space, action, self.answer(self.last))
        self.n, self.last = self.n + 1, self.observation_space.sample()
        return self.last, reward, False, self.n >= self.steps, {}


def share(space: Any, action: Any, right: Any) -> float:
    """Return the share of columns in which two actions agree; numbers agree within 0.3."""
    found, expected = (spaces.flatten(space, value) for value in (action, right))
    return float((np.abs(found - expected) < 0.3).mean())


def answer(observation: Any) -> Any:
    """Return the right action for an observation of `OBSERVATIONS`, in `ACTIONS`."""
    kind, (first, second) = int(observation["kind"]), observation["levels"]
    return {
        "gear": np.int64(kind + 2),
        "lamps": np.array([first == 1, second > 1], np.int8),
        "wheels": (np.asarray(observation["speed"], np.float32) * 2, np.array([second % 2, 3 - second], np.int64)),
    }


def register_echo(observations: Any, actions: Any, name: str = "toy/Echo-v0", answer: Any = None) -> str:
    """Register such an environment, in place of an earlier one of this name; returns its id."""
    gym.registry.pop(name, None)
    gym.register(name, entry_point=lambda **_: Echo(observations, actions, answer), max_episode_steps=5)
    return name
