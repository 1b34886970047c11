"""Recording one episode of a policy in an environment for Minari."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Dict, Tuple

from snn_dt.data.checked_env import Checked, find_checked
from snn_dt.errors import DataError, SnnDtError

if TYPE_CHECKING:
    import gymnasium as gym


def record(env: gym.Env[Any, Any], policy: Callable[[Any], Any], seed: int, index: int) -> Any:
    """Play episode `index` from reset seed `seed` and return it as Minari's `EpisodeBuffer`.

    The policy's method `begin(index)`, if it has one, is called first.

    Raises:
        DataError: the policy raises, or an action is outside the action space.
        EnvironmentMismatchError: the environment raises or breaks Gymnasium's interface, see `Checked`.
    """
    env = env if find_checked(env) else Checked(env)
    try:
        if begin := getattr(policy, "begin", None):
            begin(index)
        return _play(env, policy, seed, index)
    except (SnnDtError, MemoryError):
        raise
    except Exception as error:  # the policy is the user's code
        # The innermost frame is where the user's code raised.
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise DataError(
            f"cannot record episode {index}: expected a policy and an environment that run, found {error!r} in "
            f"{place.filename}, line {place.lineno}; mend the one that raised it"
        ) from error


def _play(env: gym.Env[Any, Any], policy: Callable[[Any], Any], seed: int, index: int) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    observation, _ = env.reset(seed=seed)
    # T + 1 observations for T actions, as Minari stores them.
    observations = [observation]
    actions: list[Any] = []
    rewards, terminations, truncations = [], [], []
    done = False
    while not done:
        action = _convert(env.action_space, policy(observation), f"step {len(actions)} of episode {index}")
        observation, reward, terminated, truncated, _ = env.step(action)
        observations.append(observation)
        actions.append(action)
        rewards.append(reward)
        terminations.append(terminated)
        truncations.append(truncated)
        done = terminations[-1] or truncations[-1]
    return EpisodeBuffer(
        id=index,
        seed=seed,
        observations=_stack(observations),
        actions=_stack(actions),
        rewards=rewards,
        terminations=terminations,
        truncations=truncations,
    )


def _convert(space: gym.Space[Any], action: Any, where: str) -> Any:
    """Return an action converted to the types of its space, so that it is recorded as it is played."""
    inside = _typed(space, action)
    if inside is None or not space.contains(inside):
        message = f"the policy gives {action!r} at {where}: expected an action inside {space}; mend the policy"
        raise DataError(" ".join(message.split()))
    return inside


def _typed(space: Any, action: Any) -> Any:
    """Return an action in the types of its space, or None if it cannot be converted."""
    try:
        if isinstance(space, Dict):
            found = {key: _typed(sub, action[key]) for key, sub in space.spaces.items()}
            return found if len(action) == len(found) else None
        if isinstance(space, Tuple):
            return tuple(_typed(sub, part) for sub, part in zip(space.spaces, action, strict=True))
        # "same_kind" refuses float to integer. `[()]` turns a 0-d array into a scalar.
        typed = np.asarray(action).astype(space.dtype, casting="same_kind")[()]
    except (TypeError, ValueError, LookupError):  # no numbers, a fraction for a choice, or a missing part
        return None
    return typed if typed.shape == space.shape else None


def _stack(steps: list[Any]) -> Any:
    """Stack a list of (nested) values to (nested) arrays [T, ...]. Minari stores them in this form."""
    if isinstance(steps[0], dict):
        return {key: _stack([step[key] for step in steps]) for key in steps[0]}
    if isinstance(steps[0], tuple):
        return tuple(_stack([step[i] for step in steps]) for i in range(len(steps[0])))
    return np.stack([np.asarray(step) for step in steps])  # [T, ...]
