"""Wrapper that checks an environment against Gymnasium's interface and limits the length of episodes."""

from __future__ import annotations

import logging
import numbers
from collections.abc import Iterator
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np

from snn_dt.data.encoding import rows
from snn_dt.errors import EnvironmentMismatchError, SnnDtError

_log = logging.getLogger("snn_dt")
MAX_EPISODE_STEPS = 100_000
"""Step limit of an episode if there is no other."""


class Checked(gym.Wrapper[Any, Any, Any, Any]):
    """Returns observations as copied arrays, rewards as floats and flags as bools, or raises a one-line error.

    Args:
        env: the environment.
        max_steps: an episode that is not over after this number of steps is truncated, and counted in `cuts`.

    Attributes:
        cuts: number of episodes truncated at `max_steps`.

    Raises:
        EnvironmentMismatchError: by `reset` and `step`, if the environment raises or returns other values.
    """

    def __init__(self, env: gym.Env[Any, Any], max_steps: int | None = None) -> None:
        super().__init__(env)
        self.max_steps = MAX_EPISODE_STEPS if max_steps is None else max_steps
        self.steps = self.cuts = 0

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        self.steps = 0
        result = self._call("reset", self.env.reset, **options)
        if not (isinstance(result, tuple) and len(result) == 2):
            self._refuse("(observation, info) from reset", result)
        return self._observation(result[0], over=False), result[1] or {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        # An environment would silently carry NaN on.
        if not all(np.isfinite(part).all() for part in _parts(action)):
            raise EnvironmentMismatchError(
                f"expected finite actions from the policy, found {_short(action)} at step {self.steps} of an episode; "
                "check the model and, in fine-tuning, explore.noise"
            )
        self.steps += 1
        result = self._call("step", self.env.step, action)
        if not (isinstance(result, tuple | list) and len(result) == 5):
            self._refuse("(observation, reward, terminated, truncated, info) from step", result)
        terminated, truncated = self._flag("terminated", result[2]), self._flag("truncated", result[3])
        reward = self._reward(result[1])
        # The observation is checked last, since the flags decide whether it matters.
        observation = self._observation(result[0], over=terminated or truncated)
        # A last step that ends by itself is not counted as cut.
        if self.steps >= self.max_steps and not (terminated or truncated):
            truncated = True
            self.cuts += 1
        return observation, reward, terminated, truncated, result[4] or {}

    def close(self) -> None:
        """Close the environment. A failure is only logged, since it changes no result."""
        try:
            super().close()
        except (Exception, SystemExit) as error:
            _log.warning("the environment %s raised %r while it was closed; mend the environment", self.name, error)

    @property
    def name(self) -> str:
        """The environment's id or the name of its class."""
        return self.env.spec.id if self.env.spec is not None else type(self.unwrapped).__name__

    def _call(self, what: str, method: Any, *values: Any, **options: Any) -> Any:
        try:
            return method(*values, **options)
        except (SnnDtError, MemoryError):
            raise
        except (Exception, SystemExit) as error:  # code of other packages or of the user
            raise EnvironmentMismatchError(
                f"expected the environment {self.name} to {what}, found: {self._where()} it raised "
                f"{type(error).__name__}: {' '.join(str(error).split())}; mend the environment"
            ) from error

    def _where(self) -> str:
        return f"at step {self.steps} of an episode" if self.steps else "at the beginning of an episode"

    def _refuse(self, expected: str, found: Any) -> NoReturn:
        old = " (4 values are those of the old Gym)" if isinstance(found, tuple) and len(found) == 4 else ""
        raise EnvironmentMismatchError(
            f"expected {expected}, found {_short(found)}{old} {self._where()} of {self.name}; check the environment"
        )

    def _number(self, value: Any) -> Any:
        """Return the value of a number or of an array of one number, else None."""
        # A list is refused even if it holds one number.
        if np.shape(value) not in ((), (1,)) or isinstance(value, list | tuple):
            return None
        value = value.item() if hasattr(value, "item") else value
        return value if isinstance(value, numbers.Real) else None

    def _reward(self, reward: Any) -> float:
        try:
            value = float(self._number(reward))
        except (TypeError, ValueError, OverflowError):
            self._refuse("a number as reward", reward)
        if not np.isfinite(value):
            self._refuse("finite rewards", reward)
        return value

    def _flag(self, name: str, flag: Any) -> bool:
        try:
            value = self._number(flag)
        except (TypeError, ValueError):
            value = None
        if value not in (0, 1):
            self._refuse(f"true or false as {name}", flag)
        return bool(value)

    def _observation(self, observation: Any, over: bool) -> Any:
        """Return a copy, since environments may reuse one array.

        The last observation of an episode may be infinite, as after a MuJoCo simulation crashed. No action follows it.
        """
        try:
            copied = _copy(self.observation_space, observation)
        except (TypeError, ValueError, KeyError, IndexError):
            self._refuse(f"an observation of {self.observation_space}", observation)
        # Only a later action would use it.
        if not over and not all(np.isfinite(part).all() for part in _parts(copied)):
            self._refuse("finite observations", observation)
        return copied


def find_checked(env: Any) -> Checked | None:
    """Return the `Checked` among the wrappers of an environment."""
    while not isinstance(env, Checked) and isinstance(env, gym.Wrapper):
        env = env.env
    return env if isinstance(env, Checked) else None


def _copy(space: gym.Space[Any], value: Any) -> Any:
    """Copy an observation; Boxes become arrays with the shape of their space. Raises if it does not fit."""
    if isinstance(space, gym.spaces.Dict):
        return {key: _copy(part, value[key]) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        if len(value) != len(space.spaces):
            raise ValueError("another length")
        return tuple(_copy(part, item) for part, item in zip(space.spaces, value, strict=True))
    if not isinstance(space, gym.spaces.Box | gym.spaces.Discrete | gym.spaces.MultiDiscrete | gym.spaces.MultiBinary):
        return value
    # `np.array` copies; the reshape only checks the number of entries.
    array = np.array(value)
    if array.dtype.kind not in "biuf":
        raise TypeError("no numbers")
    array = array.reshape(space.shape or ())
    if not isinstance(space, gym.spaces.Box):
        rows(space, array[None])  # raises for a choice outside the space
    return array if array.shape else array[()]


def _parts(value: Any) -> Iterator[np.ndarray]:
    """Yield the arrays of decimal numbers in a nested value."""
    if isinstance(value, dict | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _parts(part)
    elif (array := np.asarray(value)).dtype.kind == "f":
        yield array


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
