"""Batched rigid-body model of the Crazyflie 2.1 quadrotor in NumPy.

A state is [..., 17] float64 in SI units with z up:

| columns | contents | frame |
|---|---|---|
| 0:3 | position | world |
| 3:7 | attitude, unit quaternion (w, x, y, z) | body to world |
| 7:10 | velocity | world |
| 10:13 | angular velocity | body |
| 13:17 | rotor speeds, 1 = full throttle | |

Source of the constants and the integrator: Learning to Fly in Seconds (Eschmann et al. 2024, arXiv 2311.13081), `l2f`
2.0.18 (MIT).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MASS = 0.027 + 0.0017 + 0.0003 + 0.0016
"""Mass in kg: 0.0306, the sum in the source."""
GRAVITY = 9.81
INERTIA = (9.41656e-6, 9.64405e-6, 1.745952e-5)
THRUST = (0.00352526, 0.01437313, 0.09223048)
"""N per rotor: c0 + c1 m + c2 m^2 of the rotor speed m."""
ROTORS = np.array([[0.028, -0.028], [-0.028, -0.028], [-0.028, 0.028], [0.028, 0.028]])
"""x and y of the rotors in m."""
YAW_TORQUE = 4.665e-3
"""Nm per N of a rotor's thrust."""
SPIN = np.array([-1.0, 1.0, -1.0, 1.0])
"""Sign of the yaw torque of each rotor."""
RISE, FALL = 0.0554545, 0.2493939
"""Time constants in s of a rotor that speeds up and of one that slows down."""
DT = 0.01
"""Duration of a control step in s."""

POSITION, ATTITUDE, VELOCITY, RATES, MOTORS = slice(0, 3), slice(3, 7), slice(7, 10), slice(10, 13), slice(13, 17)
STATE_DIM = 17
# A thrust f at (x, y) makes the torque (y f, -x f, +-k f); [4 rotors, 3 axes].
MIXER = np.column_stack([ROTORS[:, 1], -ROTORS[:, 0], SPIN * YAW_TORQUE])


class Body(NamedTuple):
    """Factors [...] on the constants of each drone: a body that differs from the model. Its inertia stays."""

    mass: Array | float = 1.0
    thrust: Array | float = 1.0
    rotor_lag: Array | float = 1.0


def thrust(motors: Array) -> Array:
    """Return the force `c0 + c1 m + c2 m^2` of each rotor in N. [..., 4] -> [..., 4]."""
    return THRUST[0] + motors * (THRUST[1] + THRUST[2] * motors)


def motor_speed(force: Array | float) -> Array:
    """Return the rotor speed that gives `force` N. It is outside [0, 1] if no throttle gives that force."""
    c0, c1, c2 = THRUST
    return (np.sqrt(np.maximum(c1 * c1 + 4.0 * c2 * (np.asarray(force) - c0), 0.0)) - c1) / (2.0 * c2)


HOVER_THROTTLE = float(motor_speed(MASS * GRAVITY / 4))
"""Throttle at hover: 0.8061 (thrust-to-weight ratio 1.467). The source's 0.726 does not lift this mass."""


def hover_state(position: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Array:
    """Return the state [17] that is at rest under `HOVER_THROTTLE`."""
    state = np.zeros(STATE_DIM)
    state[POSITION], state[ATTITUDE], state[MOTORS] = position, (1.0, 0.0, 0.0, 0.0), HOVER_THROTTLE
    return state


def derivative(state: Array, throttle: Array, body: Body = Body()) -> Array:  # noqa: B008  immutable
    """Return d state / dt [..., 17] under `throttle` [..., 4], each in [0, 1], of a drone with factors `body`.

    ```
    p' = v      v' = R(q) (0, 0, sum f) / mass - g      q' = q (0, w) / 2
    J w' = tau - w x J w        m' = (u - m) / tau_m,   tau_m = rise if u > m else fall
    ```
    """
    qw, qx, qy, qz = (state[..., i] for i in range(3, 7))
    wx, wy, wz = (state[..., i] for i in range(10, 13))
    motors = state[..., MOTORS]
    force = thrust(motors) * np.asarray(body.thrust)[..., None]  # [..., 4]
    torque = force @ MIXER  # [..., 3], body frame
    lift = force.sum(-1) / (MASS * body.mass)  # acceleration along body z, [...]
    jx, jy, jz = INERTIA
    out = np.empty_like(state)
    out[..., POSITION] = state[..., VELOCITY]
    # q' = q (0, w) / 2
    out[..., 3] = -0.5 * (qx * wx + qy * wy + qz * wz)
    out[..., 4] = 0.5 * (qw * wx + qy * wz - qz * wy)
    out[..., 5] = 0.5 * (qw * wy + qz * wx - qx * wz)
    out[..., 6] = 0.5 * (qw * wz + qx * wy - qy * wx)
    # v' = R(q) (0, 0, lift) - g: third column of R times lift
    out[..., 7] = 2.0 * (qx * qz + qw * qy) * lift
    out[..., 8] = 2.0 * (qy * qz - qw * qx) * lift
    out[..., 9] = (1.0 - 2.0 * (qx * qx + qy * qy)) * lift - GRAVITY
    # Euler's equations with a diagonal inertia
    out[..., 10] = (torque[..., 0] - (jz - jy) * wy * wz) / jx
    out[..., 11] = (torque[..., 1] - (jx - jz) * wz * wx) / jy
    out[..., 12] = (torque[..., 2] - (jy - jx) * wx * wy) / jz
    # first-order rotors with different time constants up and down
    lag = throttle - motors
    out[..., MOTORS] = lag / (np.where(lag > 0, RISE, FALL) * np.asarray(body.rotor_lag)[..., None])
    return out


def advance(state: Array, throttle: Array, dt: float = DT, body: Body = Body()) -> Array:  # noqa: B008  immutable
    """Return the state after `dt` seconds of constant `throttle`, by one RK4 step and a normalisation of q."""
    # the throttle is constant over the step
    k1 = derivative(state, throttle, body)
    k2 = derivative(state + 0.5 * dt * k1, throttle, body)
    k3 = derivative(state + 0.5 * dt * k2, throttle, body)
    k4 = derivative(state + dt * k3, throttle, body)
    new: Array = state + dt / 6.0 * (k1 + 2.0 * (k2 + k3) + k4)
    q = new[..., ATTITUDE]  # a view: the division changes `new`
    q /= np.sqrt((q * q).sum(-1, keepdims=True))
    return new


def rotation(q: Array) -> Array:
    """Return the row-major rotation matrix R(q) from body to world. [..., 4] -> [..., 9]."""
    w, x, y, z = (q[..., i] for i in range(4))
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return np.stack(rows, axis=-1)  # nine entries [...] -> [..., 9]


def random_state(rng: np.random.Generator, spread: float = 1.0) -> Array:
    """Draw an initial state [17]: with probability 0.1 hover at the origin, else uniform in `spread` times the ranges.

    Published ranges: position 0.5 m, tilt 90 degrees about any axis, velocity 1 m/s, angular velocity 1 rad/s, rotors
    between standstill and hover.
    """
    state = hover_state()
    if rng.random() < 0.1:
        return state
    axis = rng.normal(size=3)
    axis /= math.sqrt(float(axis @ axis))  # uniform on the sphere
    half = 0.25 * math.pi * spread * rng.random()  # half the angle of rotation, for the quaternion
    state[POSITION] = 0.5 * spread * rng.uniform(-1.0, 1.0, 3)
    state[ATTITUDE] = (math.cos(half), *(math.sin(half) * axis))
    state[VELOCITY] = spread * rng.uniform(-1.0, 1.0, 3)
    state[RATES] = spread * rng.uniform(-1.0, 1.0, 3)
    state[MOTORS] *= 1.0 - spread * rng.random(4)  # a factor for each rotor
    return state
