"""Scripted controllers for the hover task: nested loops for position, attitude and rotor thrust.

They map privileged observations [N, P] of N drones to actions [N, 4] and have no state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_dt.experimental.online import crazyflie_model as model
from snn_dt.experimental.online.crazyflie import ACTION_DIM, HISTORY, PLAIN_DIM, TRUTH_DIM

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
        """Return the actions [N, 4] for privileged observations [N, S], or [4] for one."""
        actions = self.steer(*self.read(np.atleast_2d(np.asarray(observations, dtype=np.float64))))
        return actions[0] if np.ndim(observations) == 1 else actions

    def read(self, seen: Array) -> tuple[Array, Array, Array, Array, Array, model.Body]:
        """Return the arguments of `steer` for privileged observations [N, 146]."""
        speeds = rotor_speeds(seen[:, PLAIN_DIM:].reshape(-1, HISTORY, ACTION_DIM))  # [N, 128] -> [N, 32, 4] -> [N, 4]
        attitude = seen[:, 3:12].reshape(-1, 3, 3)  # [N, 9] -> [N, 3, 3]
        return seen[:, :3], attitude, seen[:, 12:15], seen[:, 15:18], speeds, model.Body()

    def steer(
        self, position: Array, attitude: Array, velocity: Array, rates: Array, now: Array, body: model.Body
    ) -> NDArray[np.float32]:
        """Return the actions [N, 4] at rotor speeds `now` [N, 4]; `attitude` [N, 3, 3] turns from body to world."""
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
        lift = model.MASS * np.reshape(body.mass, (-1, 1)) * size * np.maximum(aim[:, 2:], 0.3)
        force = np.concatenate([lift, torque], axis=-1) @ _ALLOCATION.T  # (lift, torques) -> rotor forces, [N, 4]
        # rotor speeds
        goal = np.clip(model.motor_speed(force / np.reshape(body.thrust, (-1, 1))), 0.0, 1.0)
        throttle = np.clip(now + self.lead * (goal - now), 0.0, 1.0)  # overdrive against the lag
        return (2.0 * throttle - 1.0).astype(np.float32)


@dataclass(frozen=True)
class PredictivePilot(Pilot):
    """`Pilot` for drones that differ from the model; its observations end with the truth (`commands` above 0).

    It computes the state in which its command will arrive: the model of this very drone, advanced under the commands
    that are still on their way (a Smith predictor, Smith 1957). Mass and thrust scale the rotor forces.

    The defaults come from a random search of 80 seconds.
    """

    position_frequency: float = 3.5
    attitude_frequency: float = 22.0
    damping: float = 1.36
    limit: float = 4.7
    lead: float = 6.5

    def read(self, seen: Array) -> tuple[Array, Array, Array, Array, Array, model.Body]:
        """Return the arguments of `steer` when the command arrives, for observations [N, 18 + 4 K + 21]."""
        sent = seen[:, PLAIN_DIM:-TRUTH_DIM].reshape(len(seen), -1, ACTION_DIM)  # [N, 4 K] -> [N, K, 4]
        state, factors, late = np.split(seen[:, -TRUTH_DIM:], [model.STATE_DIM, model.STATE_DIM + 3], axis=1)
        body, late = model.Body(*factors.T), late.astype(np.int64)  # late [N, 1]
        for step in range(int(late.max(initial=0))):
            # [N, 4]: the command that arrives in this step, the newest last
            arrives = np.take_along_axis(sent, np.minimum(step - late, -1)[..., None], axis=1)[:, 0]
            state = np.where(late > step, model.advance(state, 0.5 * (arrives + 1.0), body=body), state)
        attitude = model.rotation(state[:, model.ATTITUDE]).reshape(-1, 3, 3)  # [N, 9] -> [N, 3, 3]
        position, velocity, rates, speeds = (
            state[:, where] for where in (model.POSITION, model.VELOCITY, model.RATES, model.MOTORS)
        )
        return position, attitude, velocity, rates, speeds, body


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


def pilot_of_skill(skill: float, best: Pilot = Pilot()) -> Pilot:
    """Return a controller between slow loops without lag compensation (skill 0) and `best` (skill 1)."""
    return replace(
        best,
        position_frequency=1.5 + (best.position_frequency - 1.5) * skill,
        attitude_frequency=8.0 + (best.attitude_frequency - 8.0) * skill,
        lead=1.0 + (best.lead - 1.0) * skill,
    )


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
