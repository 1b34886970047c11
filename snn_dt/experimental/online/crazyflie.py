"""The environment `snn_dt/CrazyflieHover-v0`: hold a Crazyflie at the origin by motor commands.

Shapes: N environments; observations [N, P]; actions [N, 4]. There are 100 steps per second.

| columns of an observation | contents |
|---|---|
| 0:3 | position, m |
| 3:12 | rotation matrix, body to world, row-major |
| 12:15 | velocity, m/s |
| 15:18 | angular velocity, rad/s, body frame |
| 18:146 | `privileged` only: the last 32 actions, oldest first; they determine the lagging rotor speeds |

With `commands` K above 0 other columns follow the first 18:

| columns | contents |
|---|---|
| 18:18 + 4 K | the last K actions, oldest first: the drone's own commands, also those that are still on their way |
| the last 21 | `privileged` only: the state [17] without noise, factors of mass, thrust and rotor lag, steps of delay |

An action is one motor command per rotor in [-1, 1], throttle (a + 1) / 2.

Source: the task of Van den Berghe et al. 2025 (arXiv 2510.24461). Here a time-out is only a truncation. Their code also
signals a termination.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from snn_dt.experimental.online import crazyflie_model as model

Kind = Literal["plain", "privileged"]
Array = NDArray[np.float64]
Step = tuple[NDArray[np.float32], Array, NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]

PLAIN_DIM, ACTION_DIM, HISTORY = 18, 4, 32
TRUTH_DIM = model.STATE_DIM + 4
"""Columns that a drone cannot measure: state, three factors, delay."""
POSITION_LIMIT = 0.6
"""m along each axis; a drone beyond it has failed and the episode terminates."""
FIRST_COST, LAST_COST = np.array([1.0, 0.01, 0.25, 0.14]), np.array([3.5, 0.10, 0.25, 0.50])
"""Costs of position, velocity, attitude and action at the beginning and the end of the curriculum."""
HOVER_ACTION = 2.0 * model.HOVER_THROTTLE - 1.0
NOISE = np.repeat([0.005, 0.01, 0.02, 0.05], [3, 9, 3, 3])
"""Standard deviations [18] of the observation's noise at `Perturbation.noise` 1."""


@dataclass(frozen=True)
class Perturbation:
    """How a real drone may differ from the model; every episode draws its own.

    `mass`, `thrust` and `rotor_lag` are half widths: 0.2 draws a factor from 0.8 to 1.2. `noise` scales `NOISE`.
    Commands come late by a number of steps between those of `delay`.
    """

    mass: float = 0.0
    thrust: float = 0.0
    rotor_lag: float = 0.0
    noise: float = 0.0
    delay: tuple[int, int] = (0, 0)


def reward(state: Array, actions: Array, curriculum: float = 1.0) -> Array:
    """Return the reward [N] of reaching `state` [N, 17] by `actions` [N, 4].

    ```
    r = 1 - C_p |p|^2 - C_v |v|^2 - C_q |q - q*|^2 - C_a |a - a*|^2
    ```

    It is at most 1. The costs go linearly from `FIRST_COST` to `LAST_COST` as `curriculum` goes from 0 to 1 (published:
    in six updates). The publication leaves two choices open. q and -q are one attitude; the nearer one counts, so
    `|q - q*|^2 = 2 - 2 |q_w|`. a* is the hover action of this model, so hovering costs nothing.
    """
    costs = FIRST_COST + curriculum * (LAST_COST - FIRST_COST)
    # [N, 4]: squared deviations of position, velocity, attitude, action
    terms = np.stack(
        [
            np.square(state[..., model.POSITION]).sum(-1),
            np.square(state[..., model.VELOCITY]).sum(-1),
            2.0 - 2.0 * np.abs(state[..., 3]),
            np.square(actions - HOVER_ACTION).sum(-1),
        ],
        axis=-1,
    )
    total: Array = 1.0 - terms @ costs
    return total


def observe(state: Array, history: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Return the observations [N, 18] of states [N, 17], or [N, 146] with the past actions `history` [N, 32, 4]."""
    parts = (
        state[..., model.POSITION],
        model.rotation(state[..., model.ATTITUDE]),
        state[..., model.VELOCITY],
        state[..., model.RATES],
    )
    past = () if history is None else (history.reshape(len(history), -1),)  # [N, 32, 4] -> [N, 128]
    return np.concatenate([*parts, *past], axis=-1, dtype=np.float32)


def observation_size(observation: Kind, commands: int) -> int:
    """Return the columns of an observation."""
    kept, hidden = (commands, TRUTH_DIM) if commands else (HISTORY, 0)
    privileged = observation == "privileged"
    return PLAIN_DIM + ACTION_DIM * kept * (privileged or commands > 0) + hidden * privileged


class CrazyflieHoverVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]):
    """N drones in one array. Row i of `reset(seed=s)` equals a single environment reset with seed s + i.

    Args:
        num_envs: N.
        max_episode_steps: an episode is truncated after this number of steps.
        observation: `plain` (18 numbers) or `privileged` (146).
        curriculum: 0 to 1, see `reward`; may be assigned at any time.
        spread: factor on the published ranges of initial states. At 1 no controller that we found keeps more than
            80 % of the drones in the box: a fifth starts too fast, too tilted or too near the wall. At 0.5, the
            default, all can be rescued; 0 starts every episode in hover.
        autoreset: start the next episode in the step after the last one (Gymnasium's `NEXT_STEP`), or wait for
            `reset(options={"reset_mask": [N] bool})` (`DISABLED`).
        perturb: differences of the drones from the model; by default none.
        commands: number of own past actions in the observation, at most 32; 0 leaves the columns of the first table.
    """

    metadata: dict[str, Any]

    def __init__(
        self,
        num_envs: int = 1,
        max_episode_steps: int | None = 500,
        observation: Kind = "plain",
        curriculum: float = 1.0,
        spread: float = 0.5,
        autoreset: bool = True,
        render_mode: None = None,
        perturb: Perturbation = Perturbation(),
        commands: int = 0,
    ) -> None:
        if observation not in ("plain", "privileged") or not 0 <= spread <= 1 or not 0 <= commands <= HISTORY:
            raise ValueError(
                "expected observation 'plain' or 'privileged', a spread in [0, 1] and at most 32 commands, found "
                f"{observation!r}, {spread!r} and {commands!r}"
            )
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self.observation, self.curriculum, self.spread, self.render_mode = observation, curriculum, spread, render_mode
        self.perturb, self.commands = perturb, commands
        mode = AutoresetMode.NEXT_STEP if autoreset else AutoresetMode.DISABLED
        self.metadata = {"autoreset_mode": mode, "render_fps": round(1 / model.DT), "render_modes": []}
        size = observation_size(observation, commands)
        # unbounded: a failing drone may spin and fall without limit
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.single_action_space = spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.state = np.tile(model.hover_state(), (num_envs, 1))
        self.history = np.zeros((num_envs, HISTORY, ACTION_DIM), np.float32)
        self.steps = np.zeros(num_envs, np.int64)
        self.over = np.zeros(num_envs, np.bool_)  # rows whose episode has ended
        self.factors, self.late = np.ones((3, num_envs)), np.zeros(num_envs, np.int64)  # `Body`; steps of delay
        self.generators = [np.random.default_rng() for _ in range(num_envs)]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin new episodes in all rows or only in those of `options["reset_mask"]`."""
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, np.bool_))
        # row i of a vector environment has the seed of a single one
        seeds = seed if isinstance(seed, list) else [None if seed is None else seed + i for i in range(self.num_envs)]
        for row in np.flatnonzero(mask).tolist():
            if (own := seeds[row]) is not None:
                self.generators[row] = np.random.default_rng(own)
            self.state[row] = model.random_state(self.generators[row], self.spread)
            if self.perturb != Perturbation():
                self._differ(row)
        # no actions yet: zeros, which is half throttle
        self.history[mask], self.steps[mask], self.over[mask] = 0.0, 0, False
        return self._observe(), {}

    def step(self, actions: NDArray[np.float32]) -> Step:
        """Advance all rows by one step. A finished row begins its next episode with reward 0 or waits for a reset."""
        commands: Array = np.clip(np.asarray(actions, dtype=np.float64), -1.0, 1.0)
        begins = self.over.copy()  # these rows are reset in this step, by NEXT_STEP
        # drop the oldest action
        self.history = np.concatenate([self.history[:, 1:], commands[:, None].astype(np.float32)], axis=1)
        # [N, 4]: the command that arrives now
        arrived: Any = self.history[np.arange(self.num_envs), -1 - self.late] if self.late.any() else commands
        # actions in [-1, 1] -> throttle in [0, 1]
        after = model.advance(self.state, 0.5 * (arrived + 1.0), body=model.Body(*self.factors))
        self.state = np.where(begins[:, None], self.state, after)
        self.steps += 1
        finite = np.isfinite(self.state).all(axis=1)  # a drone that spins up without bound overflows
        rewards = np.where(finite, reward(self.state, commands, self.curriculum), 0.0)
        outside = (np.abs(self.state[:, model.POSITION]) > POSITION_LIMIT).any(axis=1)  # [N]
        terminated = np.logical_or(outside, ~finite)
        truncated = self.steps >= (self.max_episode_steps or np.inf)
        self.over = terminated | truncated
        if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP and begins.any():
            self.reset(options={"reset_mask": begins})
            rewards[begins], terminated[begins], truncated[begins] = 0.0, False, False
        return self._observe(), rewards, terminated, truncated, {}

    def _differ(self, row: int) -> None:
        """Draw the differences of one drone from the model."""
        p, rng = self.perturb, self.generators[row]
        self.factors[:, row] = 1.0 + np.array([p.mass, p.thrust, p.rotor_lag]) * rng.uniform(-1.0, 1.0, 3)
        self.late[row] = rng.integers(p.delay[0], p.delay[1] + 1)

    def _observe(self) -> NDArray[np.float32]:
        privileged = self.observation == "privileged"
        kept = self.commands or HISTORY * privileged
        seen = observe(self.state, self.history[:, HISTORY - kept :] if kept else None)
        if self.perturb.noise > 0:
            noise = np.stack([rng.standard_normal(PLAIN_DIM) for rng in self.generators])  # [N, 18]
            seen[:, :PLAIN_DIM] += self.perturb.noise * NOISE * noise
        if privileged and self.commands:
            truth = (self.state, self.factors.T, self.late[:, None])  # [N, 17], [N, 3], [N, 1]
            seen = np.concatenate([seen, *truth], axis=1, dtype=np.float32)
        return np.nan_to_num(seen, copy=False, posinf=0.0, neginf=0.0)


class CrazyflieHoverEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """One drone with arguments and dynamics of `CrazyflieHoverVectorEnv`; `gymnasium.make` adds the time limit.

    With `render_mode="rgb_array"`, `render()` draws the flight so far in three dimensions.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / model.DT)}  # noqa: RUF012  as in Gymnasium

    def __init__(
        self,
        observation: Kind = "plain",
        curriculum: float = 1.0,
        spread: float = 0.5,
        render_mode: str | None = None,
        commands: int = 0,
    ) -> None:
        self.drones = CrazyflieHoverVectorEnv(
            *(1, None, observation, curriculum, spread), autoreset=False, commands=commands
        )
        self.render_mode = render_mode
        self.observation_space = self.drones.single_observation_space
        self.action_space = self.drones.single_action_space
        self._flown: list[Array] = []
        self._picture: Any = None

    @property
    def curriculum(self) -> float:
        """Position of the reward's costs between first (0) and last (1)."""
        return self.drones.curriculum

    @curriculum.setter
    def curriculum(self, value: float) -> None:
        self.drones.curriculum = value

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode; the same seed gives the same episodes."""
        super().reset(seed=seed)
        self.drones.generators[0] = self.np_random  # Gymnasium's seeding is that of the single row
        observations, info = self.drones.reset()
        self._flown = [self.drones.state[0]]
        return observations[0], info

    def step(self, action: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Advance by 0.01 s."""
        observations, rewards, terminated, _, info = self.drones.step(np.asarray(action)[None])  # [4] -> [1, 4]
        self._flown.append(self.drones.state[0])  # for `render`
        return observations[0], float(rewards[0]), bool(terminated[0]), False, info

    def render(self) -> Any:
        """Return an image [height, width, 3] uint8 of the flight so far. Without a render mode this is None."""
        if self.render_mode is None:
            return None
        from snn_dt.experimental.online.flight_figure import FlightPicture

        self._picture = self._picture or FlightPicture(POSITION_LIMIT)
        return self._picture.frame(np.stack(self._flown))  # [T, 17]
