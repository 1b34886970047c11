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
from snn_dt.evaluation.actions import to_space
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.rollout import run_episodes

WIDE = 1_000
"""Deviations of the data in half a range beyond which the range says nothing of the actions."""


class Explorer(Policy):
    """A policy whose actions are noisy; what it remembers of the episode is what was really done."""

    def __init__(
        self,
        policy: Policy,
        noise: float,
        epsilon: float,
        rng: np.random.Generator,
        deviation: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(policy.model, policy.spec, policy.state_mean, policy.state_std)
        self.epsilon, self.rng = epsilon, rng
        if not self.model.discrete:
            if deviation is None and policy.spec.action_deviation is not None:
                deviation = np.asarray(policy.spec.action_deviation)
            self.sigma = noise_deviation(self.action_space, noise, deviation)

    def act(self, observation: Any) -> Any:
        """Choose as the policy does, then draw: a Gaussian beside it, or with probability epsilon any choice."""
        action, space = super().act(observation), self.action_space
        if self.model.discrete:
            other = self.rng.integers(space.start, space.start + space.n, size=np.shape(action))
            action = np.where(self.rng.random(np.shape(action)) < self.epsilon, other, action)
            self.context.set_action(torch.as_tensor(action - space.start, device=self.device))
            return action
        drawn = to_space(action + self.sigma * self.rng.standard_normal(action.shape), space)
        self.context.set_action(torch.as_tensor(drawn.reshape(len(drawn), -1), dtype=torch.float32, device=self.device))
        return drawn


def noise_deviation(space: gym.spaces.Box, noise: float, deviation: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the deviation of the noise on each number of an action: a share of half its range, always finite.

    Where the range is not finite, or a thousand times wider than the data's actions spread, `noise` is a share of their
    deviation; of 1 where that is not known.
    """
    spread = np.ones(space.shape) if deviation is None else np.reshape(deviation, space.shape)
    found: NDArray[np.float64] = np.where(_usual(space, deviation), _half_range(space, noise), noise * spread)
    return found


def scale_is_known(space: gym.spaces.Box, deviation: NDArray[np.float64] | None) -> bool:
    """Whether bounds or data say how large an action is."""
    return deviation is not None or bool(_usual(space, None).all())


def _usual(space: gym.spaces.Box, deviation: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """Whether the range of each number is one to measure noise in."""
    half = _half_range(space, 1.0)
    spread = np.zeros(space.shape) if deviation is None else np.reshape(deviation, space.shape)
    usual: NDArray[np.bool_] = np.isfinite(half) & ((half <= WIDE * spread) | (spread == 0))
    return usual


def _half_range(space: gym.spaces.Box, share: float) -> NDArray[Any]:
    whole = np.issubdtype(space.dtype, np.integer)
    low, high = (b.astype(np.float64) if whole else b for b in (space.low, space.high))
    with np.errstate(over="ignore", invalid="ignore"):
        half: NDArray[Any] = share * 0.5 * (high - low)
    return half


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
