"""Atari as agents usually see it: gray frames of 84 x 84. The environment, and Minari's `atari/*` read in the same way.

    atari:breakout/expert-v0     the dataset minari:atari/breakout/expert-v0, each frame [210, 160, 3] -> [84, 84, 1]
    snn_dt/Atari-Breakout-v5     the environment, without sticky actions as in the data
    snn_dt/AtariSticky-Breakout-v5   an action is repeated with probability 0.25 in each frame

Both use `small`, so a policy sees frames of one kind. Evaluation is that of Mnih et al. 2015 and of the Decision
Transformer: frame skip 4, up to 30 no-ops at the start, all lives are one episode, at most 108,000 frames. As in the
data, and unlike there, a frame is the last of the four and not the maximum of the last two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from snn_dt.data import minari_source
from snn_dt.data.atari_scores import atari_reference
from snn_dt.data.source import DataSource, Episode, Located, ReadOptions, Source
from snn_dt.errors import DataError, EnvironmentMismatchError

SIZE = 84
STICKY = {"snn_dt/Atari-": 0.0, "snn_dt/AtariSticky-": 0.25}
"""Beginnings of the ids, and the probability that an action is repeated in a frame (Machado et al. 2018: 0.25)."""
MAX_STEPS = 27_000
"""108,000 frames."""


def small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame [H, W, 3] as gray [84, 84, 1], resized by linear interpolation."""
    from PIL import Image

    gray = Image.fromarray(frame).convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(gray)[:, :, None]


class Atari(gym.Env[NDArray[np.uint8], np.integer[Any]]):
    """An Atari game with gray frames [84, 84, 1].

    Args:
        game: its name in `ALE/<game>-v5`.
        frame_skip: frames for which an action is repeated. Their rewards are added.
        noop_max: an episode begins after 0 to `noop_max` frames without action, drawn by the reset seed.
        repeat_action_probability: of repeating the previous action, in each frame.
        render_mode: of the game.

    Attributes:
        game: the environment `ALE/<game>-v5`, one frame a step.

    Raises:
        EnvironmentMismatchError: package `ale-py` is not installed.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 15}  # noqa: RUF012  as Gymnasium declares it

    def __init__(
        self,
        game: str,
        frame_skip: int = 4,
        noop_max: int = 30,
        repeat_action_probability: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        try:
            import ale_py
        except ImportError as error:
            raise EnvironmentMismatchError(
                f"expected package ale-py for the Atari game {game}, found none; pip install 'snn-dt[atari]'"
            ) from error
        gym.register_envs(ale_py)
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # otherwise it prints a banner
        options = {"frameskip": 1, "repeat_action_probability": repeat_action_probability, "render_mode": render_mode}
        self.game = gym.make(f"ALE/{game}-v5", disable_env_checker=True, max_episode_steps=-1, **options)
        self.frame_skip, self.noop_max, self.render_mode = frame_skip, noop_max, render_mode
        self.action_space = self.game.action_space
        self.observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode with a number of no-ops."""
        super().reset(seed=seed)
        frame, info = self.game.reset(seed=seed, options=options)
        for _ in range(self.np_random.integers(self.noop_max + 1)):
            frame, _, terminated, truncated, info = self.game.step(np.int64(0))  # move 0 is no move in every game
            if terminated or truncated:
                frame, info = self.game.reset(options=options)
        return small(frame), info

    def step(self, action: np.integer[Any]) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Repeat an action for `frame_skip` frames, or until the game is over."""
        total = 0.0
        for _ in range(self.frame_skip):
            frame, reward, terminated, truncated, info = self.game.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return small(frame), total, terminated, truncated, info

    def render(self) -> Any:
        """Return the frame of the game in its own size."""
        return self.game.render()

    def close(self) -> None:
        """End the game."""
        self.game.close()


def register(env_id: str) -> None:
    """Register the environment `env_id` with Gymnasium if its name begins as `STICKY` says."""
    for prefix, probability in STICKY.items():
        if env_id.startswith(prefix) and env_id.endswith("-v5"):
            gym.register(
                env_id,
                entry_point="snn_dt.data.atari:Atari",
                kwargs={"game": game_of(env_id), "repeat_action_probability": probability},
                max_episode_steps=MAX_STEPS,
            )


def game_of(env_id: str) -> str:
    """Return `Breakout` for `ALE/Breakout-v5` or `snn_dt/Atari-Breakout-v5`."""
    return env_id.rpartition("/")[2].removesuffix("-v5").rpartition("-")[2]


def _locate(name: str, download: bool) -> Located:
    located = minari_source.MINARI.locate(f"atari/{name.removeprefix('atari/')}", download)
    return located._replace(dataset_id=f"{SIZE} x {SIZE} {located.dataset_id}")  # the cache holds other arrays


def _read(located: Located, options: ReadOptions) -> Source:
    """Return a dataset of Atari frames with each frame made `small`."""
    source = minari_source.MINARI.read(located, options)
    shape = getattr(source.observation_space, "shape", None)
    if shape is None or len(shape) != 3 or shape[2] != 3 or not (source.env_id or "").startswith("ALE/"):
        raise DataError(
            f"expected colour frames of an environment ALE/<game>-v5 in {source.dataset_id}, found "
            f"{source.observation_space} of {source.env_id}; read it as minari:{source.dataset_id}"
        )
    game = game_of(str(source.env_id))

    def episodes() -> Iterator[Episode]:
        for episode in source.episodes():
            yield episode._replace(observations=np.stack([small(frame) for frame in episode.observations]))

    return replace(
        source,
        observation_space=gym.spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8),
        env_id=f"snn_dt/Atari-{game}-v5",
        env_spec=None,
        time_limit=MAX_STEPS,
        reference=atari_reference(game),
        episodes=episodes,
    )


ATARI = DataSource(_locate, _read)
