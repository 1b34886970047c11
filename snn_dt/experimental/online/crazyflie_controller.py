"""A scripted controller for the hover task: nested loops for position, attitude and rotor thrust.

It maps privileged observations [N, 146] of N drones to actions [N, 4] and has no state.
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
    """Feedback control of position and attitude with compensation of the rotors' lag.

    ```
    a = -k_p p - k_v v, |a| <= limit        z* = (a + g) / |a + g|          desired thrust direction
    w' = k_R (z x R^T z*) - k_w w           f = mixer^-1 (m |a + g| z . z*, J w')
    u = m_now + lead (m(f) - m_now)         m_now: rotor speeds computed from the past actions
    ```

    Frequencies are in rad/s; both loops are critically damped at `damping` 1. The defaults come from a random search:
    128 of 128 flights last at `spread` 0.5 with a mean return of 473; 101 flights and 317 at 1.0 (seeds from 20000).
    """

    position_frequency: float = 3.0
    attitude_frequency: float = 21.0
    damping: float = 1.15
    limit: float = 6.0
    """Maximum desired acceleration in m/s^2."""
    lead: float = 4.0
    """Gain of the lag compensation: overdrive of a rotor towards its desired speed."""

    def __call__(self, observations: ArrayLike) -> NDArray[np.float32]:
        """Return the actions [N, 4] for privileged observations [N, 146], or [4] for one."""
        seen = np.atleast_2d(np.asarray(observations, dtype=np.float64))
        position, velocity, rates = seen[:, :3], seen[:, 12:15], seen[:, 15:18]
        attitude = seen[:, 3:12].reshape(-1, 3, 3)  # [N, 9] -> [N, 3, 3]
        # acceleration, [N, 3]
        desired = -(self.position_frequency**2) * position - 2 * self.damping * self.position_frequency * velocity
        size = np.linalg.norm(desired, axis=-1, keepdims=True)
        desired *= np.minimum(1.0, self.limit / np.maximum(size, 1e-9))  # limit its norm
        desired[:, 2] += model.GRAVITY  # the thrust also carries the weight
        size = np.linalg.norm(desired, axis=-1, keepdims=True)
        aim = np.einsum("nij,ni->nj", attitude, desired / size)  # R^T z*: body frame, where z is (0, 0, 1)
        error = np.stack([-aim[:, 1], aim[:, 0], np.zeros(len(aim))], axis=-1)  # cross product of z and the aim, [N, 3]
        # a drone upside down gets the full error: the cross product shrinks again beyond 90 degrees
        error[aim[:, 2] < 0] /= np.maximum(np.linalg.norm(error[aim[:, 2] < 0], axis=-1, keepdims=True), 1e-9)
        # desired angular acceleration, body frame
        turn = self.attitude_frequency**2 * error - 2 * self.damping * self.attitude_frequency * rates
        torque = turn * model.INERTIA
        torque[:, 2] = -2e-4 * rates[:, 2]  # yaw has little authority; only its rate is damped
        # never cut the thrust fully: rotors without speed cannot turn the drone
        lift = model.MASS * size * np.maximum(aim[:, 2:], 0.3)
        force = np.concatenate([lift, torque], axis=-1) @ _ALLOCATION.T  # (lift, torques) -> rotor forces, [N, 4]
        goal = np.clip(model.motor_speed(force), 0.0, 1.0)  # rotor speeds
        now = rotor_speeds(seen[:, PLAIN_DIM:].reshape(-1, HISTORY, ACTION_DIM))  # [N, 128] -> [N, 32, 4] -> [N, 4]
        throttle = np.clip(now + self.lead * (goal - now), 0.0, 1.0)  # overdrive against the lag
        actions = (2.0 * throttle - 1.0).astype(np.float32)
        return actions[0] if np.ndim(observations) == 1 else actions


def rotor_speeds(history: Array) -> Array:
    """Return the rotor speeds [N, 4] that follow from hover speed and the past actions [N, 32, 4]."""
    speed = np.full((len(history), ACTION_DIM), model.HOVER_THROTTLE)
    for action in history.transpose(1, 0, 2):  # [32, N, 4]: step by step
        lag = 0.5 * (action + 1.0) - speed
        # exact step of a first-order lag
        speed += lag * -np.expm1(-model.DT / np.where(lag > 0, model.RISE, model.FALL))
    return speed


# Total lift and torques are linear in the rotor forces; this is the inverse, [4, 4].
_ALLOCATION = np.linalg.inv(np.vstack([np.ones(4), model.MIXER.T]))


def pilot_of_skill(skill: float) -> Pilot:
    """Return a controller between slow loops without lag compensation (skill 0) and `Pilot()` (skill 1)."""
    return Pilot(1.5 + 1.5 * skill, 8.0 + 13.0 * skill, lead=1.0 + 3.0 * skill)


class Apprentice:
    """Controllers of rising skill for `snn-dt data collect`: episode i of n is flown with skill i / (n - 1).

    Skill 0 has slow loops, no lag compensation and Gaussian noise of deviation 0.5 on each command; skill 1 is
    `Pilot()`. It takes plain observations [18] and keeps its own history of actions.
    """

    def __init__(self, episodes: int, seed: int) -> None:
        self.episodes, self.seed = episodes, seed

    def begin(self, episode: int) -> None:
        """Begin an episode: clear the history, set skill and noise generator of this episode."""
        skill = episode / max(self.episodes - 1, 1)
        self.pilot = pilot_of_skill(skill)
        self.noise = 0.5 * (1.0 - skill)
        self.generator = np.random.default_rng([self.seed, episode])
        self.history = np.zeros((HISTORY, ACTION_DIM), np.float32)

    def __call__(self, observation: ArrayLike) -> NDArray[np.float32]:
        """Return the action [4] for a plain observation [18]."""
        action = self.pilot(np.concatenate([np.asarray(observation), self.history.ravel()]))  # [18] and [128] -> [146]
        action = np.clip(action + self.noise * self.generator.standard_normal(ACTION_DIM), -1.0, 1.0).astype(np.float32)
        self.history = np.concatenate([self.history[1:], action[None]])  # drop the oldest action, [32, 4]
        return action
