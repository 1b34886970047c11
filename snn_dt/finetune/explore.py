"""Gathering episodes with a policy that tries something else at times.

N episodes side by side, A action columns; an episode has L steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.data.source import Episode
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.rollout import run_episodes


class Explorer(Policy):
    """A policy whose actions are noisy; what it remembers of the episode is what was really done."""

    def __init__(self, policy: Policy, noise: float, epsilon: float, rng: np.random.Generator) -> None:
        super().__init__(policy.model, policy.spec, policy.state_mean, policy.state_std)
        self.noise, self.epsilon, self.rng = noise, epsilon, rng

    def act(self, observation: Any) -> Any:
        """Choose as the policy does, then draw: a Gaussian beside it, or with probability epsilon any choice."""
        action, space = super().act(observation), self.action_space
        if self.model.discrete:
            other = self.rng.integers(space.start, space.start + space.n, size=np.shape(action))
            action = np.where(self.rng.random(np.shape(action)) < self.epsilon, other, action)
            self.context.set_action(torch.as_tensor(action - space.start, device=self.device))
            return action
        sigma = self.noise * 0.5 * (space.high - space.low)
        drawn = np.clip(action + sigma * self.rng.standard_normal(action.shape), space.low, space.high)
        drawn = drawn.astype(space.dtype)
        self.context.set_action(torch.as_tensor(drawn.reshape(len(drawn), -1), dtype=torch.float32, device=self.device))
        return drawn


class RecordedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Hands every finished episode to `take`, observations as `flatten` makes them, [L + 1, S]."""

    def __init__(
        self, env: gym.Env[Any, Any], flatten: Callable[[Any], NDArray[np.float32]], take: Callable[[Episode], None]
    ) -> None:
        super().__init__(env)
        self._flatten, self._take = flatten, take
        self._observations: list[NDArray[np.float32]] = []
        self._actions: list[Any] = []
        self._rewards: list[float] = []

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; one that was not finished is forgotten."""
        observation, info = self.env.reset(**options)
        self._observations, self._actions, self._rewards = [self._flatten(observation)], [], []
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance and record."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._observations.append(self._flatten(observation))
        self._actions.append(np.ravel(action) if np.ndim(action) else action)
        self._rewards.append(float(reward))
        if terminated or truncated:
            steps = (np.stack(self._observations), np.asarray(self._actions), np.asarray(self._rewards))
            self._take(Episode(*steps, bool(terminated), bool(truncated)))
        return observation, reward, terminated, truncated, info


def gather(explorer: Explorer, envs: Sequence[Any], target_return: float, episodes: int, seed: int) -> list[Episode]:
    """Run episodes `seed, seed + 1, ...` to their ends, asking for `target_return`."""
    finished: list[Episode] = []
    recorded = [RecordedEnv(env, explorer.flatten, finished.append) for env in envs]
    run_episodes(explorer, recorded, target_return, episodes, seed)
    return finished
