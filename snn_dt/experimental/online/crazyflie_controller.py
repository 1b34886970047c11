"""A scripted pilot for the hover task: position, attitude, rotor thrusts, one loop inside the other.

N drones; privileged observations [N, 146] in, actions [N, 4] out; no state of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_dt.experimental.online import crazyflie_model as model
from snn_dt.experimental.online.crazyflie import ACTION_DIM, HISTORY, PLAIN_DIM

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pilot:
    """Feedback on position and attitude, with the rotors' lag made up for.

    ```
    a = -k_p p - k_v v, |a| <= limit        z* = (a + g) / |a + g|          where the thrust should point
    w' = k_R (z x R^T z*) - k_w w           f = mixer^-1 (m |a + g| z . z*, J w')
    u = m_now + lead (m(f) - m_now)         m_now from the past actions
    ```

    Frequencies in rad/s; both loops are critically damped at `damping` 1. The defaults are from a random search: 128 of
    128 flights last, with a return of 473 at `spread` 0.5; at 1.0 it is 101 flights and 317 (seeds from 20000).
    """

    position_frequency: float = 3.0
    attitude_frequency: float = 21.0
    damping: float = 1.15
    limit: float = 6.0
    """Largest acceleration asked for, m/s^2."""
    lead: float = 4.0
    """How much harder than needed a rotor is driven towards its speed."""

    def __call__(self, observations: ArrayLike) -> NDArray[np.float32]:
        """Return the actions [N, 4] for privileged observations [N, 146], or [4] for one."""
        seen = np.atleast_2d(np.asarray(observations, dtype=np.float64))
        position, velocity, rates = seen[:, :3], seen[:, 12:15], seen[:, 15:18]
        attitude = seen[:, 3:12].reshape(-1, 3, 3)
        wanted = -(self.position_frequency**2) * position - 2 * self.damping * self.position_frequency * velocity
        size = np.linalg.norm(wanted, axis=-1, keepdims=True)
        wanted *= np.minimum(1.0, self.limit / np.maximum(size, 1e-9))
        wanted[:, 2] += model.GRAVITY
        size = np.linalg.norm(wanted, axis=-1, keepdims=True)
        aim = np.einsum("nij,ni->nj", attitude, wanted / size)  # the aim in the body's frame, whose z is (0, 0, 1)
        error = np.stack([-aim[:, 1], aim[:, 0], np.zeros(len(aim))], axis=-1)
        error[aim[:, 2] < 0] /= np.maximum(np.linalg.norm(error[aim[:, 2] < 0], axis=-1, keepdims=True), 1e-9)
        turn = self.attitude_frequency**2 * error - 2 * self.damping * self.attitude_frequency * rates
        torque = turn * model.INERTIA
        torque[:, 2] = -2e-4 * rates[:, 2]  # yaw is weak, and only its rate is held
        lift = model.MASS * size * np.maximum(aim[:, 2:], 0.3)
        force = np.concatenate([lift, torque], axis=-1) @ _ALLOCATION.T
        goal = np.clip(model.motor_speed(force), 0.0, 1.0)
        now = rotor_speeds(seen[:, PLAIN_DIM:].reshape(-1, HISTORY, ACTION_DIM))
        throttle = np.clip(now + self.lead * (goal - now), 0.0, 1.0)
        actions = (2.0 * throttle - 1.0).astype(np.float32)
        return actions[0] if np.ndim(observations) == 1 else actions


def rotor_speeds(history: Array) -> Array:
    """Return what past actions [N, H, 4] have made of rotors that began at hover [N, 4]."""
    speed = np.full((len(history), ACTION_DIM), model.HOVER_THROTTLE)
    for action in history.transpose(1, 0, 2):
        lag = 0.5 * (action + 1.0) - speed
        speed += lag * -np.expm1(-model.DT / np.where(lag > 0, model.RISE, model.FALL))
    return speed


# Total lift and torques are linear in the rotors' forces; this is the inverse.
_ALLOCATION = np.linalg.inv(np.vstack([np.ones(4), model.MIXER.T]))


def pilot_of_skill(skill: float) -> Pilot:
    """Return a pilot between slack loops that do not make up for the rotors' lag (skill 0) and `Pilot()` (skill 1)."""
    return Pilot(1.5 + 1.5 * skill, 8.0 + 13.0 * skill, lead=1.0 + 3.0 * skill)


class Apprentice:
    """Pilots of rising skill for `snn-dt data collect`: episode i of n is flown at skill i / (n - 1).

    At skill 0 the loops are slack, the rotors' lag is not made up for and Gaussian noise of deviation 0.5 is on every
    command; at skill 1 it is `Pilot` itself. It sees plain observations [18] and remembers its actions.
    """

    def __init__(self, episodes: int, seed: int) -> None:
        self.episodes, self.seed = episodes, seed

    def begin(self, episode: int) -> None:
        """Begin an episode: forget the actions, take up its skill and its own stream of noise."""
        skill = episode / max(self.episodes - 1, 1)
        self.pilot = pilot_of_skill(skill)
        self.noise = 0.5 * (1.0 - skill)
        self.generator = np.random.default_rng([self.seed, episode])
        self.history = np.zeros((HISTORY, ACTION_DIM), np.float32)

    def __call__(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Return the action [4] for a plain observation [18]."""
        action = self.pilot(np.concatenate([np.asarray(observation), self.history.ravel()]))
        action = np.clip(action + self.noise * self.generator.standard_normal(ACTION_DIM), -1.0, 1.0).astype(np.float32)
        self.history = np.concatenate([self.history[1:], action[None]])
        return action
