"""Episodes of a policy with exploration noise.

Shapes: N episodes in parallel; A action columns; S observation columns. An episode has L steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.data.encoding import to_space
from snn_dt.data.source import Episode
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.rollout import run_episodes

MAX_RANGE_PER_DEVIATION = 1_000
"""Largest half-range of an action in standard deviations of the data's actions. A wider range is a placeholder."""


class Explorer(Policy):
    """A policy with exploration noise; its context holds the actions that were executed."""

    def __init__(
        self,
        policy: Policy,
        noise: float,
        epsilon: float,
        rng: np.random.Generator,
        deviation: NDArray[np.float64] | None = None,
    ) -> None:
        # shares the model, has its own context
        super().__init__(policy.model, policy.spec, policy.state_mean, policy.state_std)
        self.epsilon, self.rng = epsilon, rng
        if not self.model.discrete:
            if deviation is None and policy.spec.action_deviation is not None:
                deviation = np.asarray(policy.spec.action_deviation)
            self.sigma = noise_deviation(self.action_space, noise, deviation)

    def act(self, observation: Any) -> Any:
        """Add Gaussian noise to the policy's action; a discrete one becomes uniform with probability epsilon."""
        action, space = super().act(observation), self.action_space
        if self.model.discrete:
            # uniform over all actions, the chosen one included
            other = self.rng.integers(space.start, space.start + space.n, size=np.shape(action))
            action = np.where(self.rng.random(np.shape(action)) < self.epsilon, other, action)
            # the context numbers actions from 0
            self.context.set_action(torch.as_tensor(action - space.start, device=self.device))
            return action
        drawn = to_space(action + self.sigma * self.rng.standard_normal(action.shape), space)  # [N, *action shape]
        self.context.set_action(torch.as_tensor(drawn.reshape(len(drawn), -1), dtype=torch.float32, device=self.device))
        return drawn


def noise_deviation(space: gym.spaces.Box, noise: float, deviation: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Return the standard deviation of the noise on each component of an action. It is always finite.

    It is `noise` times half the range of the component. If the range is infinite or more than a thousand times the
    deviation of the data's actions, it is `noise` times that deviation. An unknown deviation counts as 1.
    """
    spread = np.ones(space.shape) if deviation is None else np.reshape(deviation, space.shape)
    found: NDArray[np.float64] = np.where(_range_is_scale(space, deviation), _half_range(space, noise), noise * spread)
    return found


def scale_is_known(space: gym.spaces.Box, deviation: NDArray[np.float64] | None) -> bool:
    """Return whether bounds or data give the scale of an action."""
    return deviation is not None or bool(_range_is_scale(space, None).all())


def _range_is_scale(space: gym.spaces.Box, deviation: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """Return for each component whether its range gives the scale of the noise."""
    half = _half_range(space, 1.0)
    spread = np.zeros(space.shape) if deviation is None else np.reshape(deviation, space.shape)
    found: NDArray[np.bool_] = np.isfinite(half) & ((half <= MAX_RANGE_PER_DEVIATION * spread) | (spread == 0))
    return found


def _half_range(space: gym.spaces.Box, share: float) -> NDArray[Any]:
    integer = np.issubdtype(space.dtype, np.integer)  # high - low overflows in small integer types
    low, high = (b.astype(np.float64) if integer else b for b in (space.low, space.high))
    with np.errstate(over="ignore", invalid="ignore"):
        half: NDArray[Any] = share * 0.5 * (high - low)
    return half


class RecordedEnv(gym.Wrapper[Any, Any, Any, Any]):
    """Passes every finished episode to `take`. `flatten` makes its observations [L + 1, S]."""

    def __init__(
        self, env: gym.Env[Any, Any], flatten: Callable[[Any], NDArray[Any]], take: Callable[[Episode], None]
    ) -> None:
        super().__init__(env)
        self._flatten, self._take = flatten, take
        self._observations: list[NDArray[Any]] = []
        self._actions: list[Any] = []
        self._rewards: list[float] = []

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; an unfinished one is dropped."""
        observation, info = self.env.reset(**options)
        self._observations, self._actions, self._rewards = [self._flatten(observation)], [], []
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Advance by one step and record it."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._observations.append(self._flatten(observation))  # one more than actions at the end: [L + 1, S]
        self._actions.append(np.ravel(action) if np.ndim(action) else action)
        self._rewards.append(float(reward))
        if terminated or truncated:
            # [L + 1, S], [L, ...], [L]
            steps = (np.stack(self._observations), np.asarray(self._actions), np.asarray(self._rewards))
            self._take(Episode(*steps, bool(terminated), bool(truncated)))
        return observation, reward, terminated, truncated, info


def gather(explorer: Explorer, envs: Sequence[Any], target_return: float, episodes: int, seed: int) -> list[Episode]:
    """Run episodes with reset seeds `seed, seed + 1, ...` and one target return to their ends."""
    finished: list[Episode] = []
    recorded = [RecordedEnv(env, explorer.flatten, finished.append) for env in envs]
    run_episodes(explorer, recorded, target_return, episodes, seed)
    return finished
