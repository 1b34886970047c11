"""MinAtar: five Atari games on a grid of 10 x 10, as Gymnasium environments. The rules are those of package `minatar`.

Source: Young and Tian 2019, arXiv 1903.03176. The package is under the GPL and is not a dependency.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from snn_dt.errors import EnvironmentMismatchError

GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")
"""The names of the games in package `minatar`."""


def env_id(game: str) -> str:
    """Return the Gymnasium id of a game: `space_invaders` -> `snn_dt/MinAtar-SpaceInvaders-v1`."""
    return f"snn_dt/MinAtar-{game.title().replace('_', '')}-v1"


class MinAtar(gym.Env[NDArray[np.uint8], np.integer[Any]]):
    """One game. Unlike the package's own environment, it begins each episode without a previous action.

    Observations are [10, 10, C] bytes, one channel per kind of object: 255 where there is one, else 0. Actions are the
    moves that have an effect in the game.

    Args:
        game: one of `GAMES`.
        sticky_action_prob: probability that the previous action is repeated; published: 0.1.
        difficulty_ramping: objects become faster with time, as published.
        render_mode: None or `rgb_array`.

    Raises:
        EnvironmentMismatchError: package `minatar` is not installed.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  as Gymnasium declares it

    def __init__(
        self,
        game: str,
        sticky_action_prob: float = 0.1,
        difficulty_ramping: bool = True,
        render_mode: str | None = None,
    ) -> None:
        try:
            from minatar import Environment
        except ImportError as error:
            raise EnvironmentMismatchError(
                f"expected package minatar for {env_id(game)}, found none; pip install 'snn-dt[minatar]'"
            ) from error
        self._game = Environment(game, sticky_action_prob, difficulty_ramping)
        self._moves = self._game.minimal_action_set()
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 255, tuple(self._game.state_shape()), np.uint8)
        self.action_space = gym.spaces.Discrete(len(self._moves))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode."""
        if seed is not None or self._np_random is None:
            super().reset(seed=seed)
            self._game.seed(int(self.np_random.integers(2**32)))
        self._game.last_action = 0
        self._game.reset()
        return self._observation(), {}

    def step(self, action: np.integer[Any]) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Take one step of the game."""
        reward, terminated = self._game.act(self._moves[int(action)])
        return self._observation(), float(reward), bool(terminated), False, {}

    def render(self) -> NDArray[np.uint8]:
        """Return a picture [320, 320, 3] of the grid."""
        state = self._game.state()
        # Hues around the circle, one per channel; where objects overlap the last channel is seen.
        turns = np.arange(state.shape[2])[:, None] / state.shape[2] + np.array([0, 1 / 3, 2 / 3])
        colours = (127.5 * (1 + np.cos(2 * np.pi * turns))).astype(np.uint8)  # [C, 3]
        seen = state.shape[2] - 1 - state[:, :, ::-1].argmax(2)  # [10, 10]
        picture = colours[seen] * state.any(2, keepdims=True)
        return np.kron(picture, np.ones((32, 32, 1), np.uint8))

    def _observation(self) -> NDArray[np.uint8]:
        return self._game.state().astype(np.uint8) * 255


def register() -> None:
    """Register the games with Gymnasium, once."""
    for game in GAMES:
        if env_id(game) not in gym.registry:
            gym.register(env_id(game), entry_point="snn_dt.data.minatar:MinAtar", kwargs={"game": game})
