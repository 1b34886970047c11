"""The rigid body against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from snn_dt.experimental.online import crazyflie_model as model


def fly(state, throttle, steps, dt=model.DT):
    for _ in range(steps):
        state = model.advance(state, np.asarray(throttle, dtype=float), dt)
    return state


def test_constants_are_those_of_the_stated_source():
    """l2f 2.0.18, parameters/dynamics/crazyflie.h: mass as four summands, time constants to seven digits."""
    assert pytest.approx(0.0306, abs=1e-12) == model.MASS
    assert (model.RISE, model.FALL) == (0.0554545, 0.2493939)
    assert 4 * sum(model.THRUST) / (model.MASS * model.GRAVITY) == pytest.approx(1.4675, abs=1e-4)


def test_hover_is_a_fixed_point():
    assert pytest.approx(0.8061, abs=1e-4) == model.HOVER_THROTTLE  # solved from the thrust curve by hand
    start = model.hover_state((0.1, -0.2, 0.3))
    throttle = np.full(4, model.HOVER_THROTTLE)
    assert np.abs(model.derivative(start, throttle)).max() < 1e-12
    assert np.abs(fly(start, throttle, 1000) - start).max() < 1e-9


def test_falling_with_rotors_at_rest_is_a_parabola():
    start = model.hover_state()
    start[model.MOTORS] = 0.0
    end = fly(start, np.zeros(4), 50)
    acceleration = 4 * 0.00352526 / 0.0306 - 9.81  # a resting rotor's c0 is not quite nothing
    assert end[2] == pytest.approx(0.5 * acceleration * 0.5**2, rel=1e-12)
    assert end[9] == pytest.approx(acceleration * 0.5, rel=1e-12)
    assert np.abs(end[[0, 1, 7, 8, 10, 11, 12]]).max() < 1e-12


def test_falling_after_the_motors_are_cut_integrates_their_decay():
    """v(t) = integral of sum(c0 + c1 m e^(-s/tau) + c2 m^2 e^(-2s/tau)) / mass - g, with tau of a slowing rotor."""
    end = fly(model.hover_state(), np.zeros(4), 50)
    tau, m, t = 0.2493939, model.HOVER_THROTTLE, 0.5
    assert end[13:17] == pytest.approx(m * np.exp(-t / tau), rel=1e-6)
    impulse = (
        0.00352526 * t
        + 0.01437313 * m * tau * (1 - np.exp(-t / tau))
        + 0.09223048 * m**2 * tau / 2 * (1 - np.exp(-2 * t / tau))
    )
    assert end[9] == pytest.approx(4 * impulse / 0.0306 - 9.81 * t, rel=1e-6)


def test_a_rotor_speeds_up_faster_than_it_slows_down():
    start = model.hover_state()
    start[model.MOTORS] = 0.5
    end = fly(start, [1.0, 1.0, 0.0, 0.0], 10)
    assert end[13:15] == pytest.approx(1 - 0.5 * np.exp(-0.1 / 0.0554545), rel=1e-4)
    assert end[15:17] == pytest.approx(0.5 * np.exp(-0.1 / 0.2493939), rel=1e-4)


def test_spinning_about_the_vertical_follows_the_yaw_torque():
    """Two opposite rotors faster, two slower, lift the same: only yaw accelerates, at sum(sign k f) / J_z."""
    start = model.hover_state()
    lift = model.MASS * model.GRAVITY / 4
    forces = np.array([lift - 0.01, lift + 0.01, lift - 0.01, lift + 0.01])
    start[model.MOTORS] = model.motor_speed(forces)
    end = fly(start, start[model.MOTORS], 100)
    rate = 4 * 0.01 * 4.665e-3 / 1.745952e-5
    assert end[12] == pytest.approx(rate, rel=1e-9)
    assert end[[3, 6]] == pytest.approx([np.cos(rate / 4), np.sin(rate / 4)], abs=1e-6)  # angle = rate t^2 / 2
    assert np.abs(end[[0, 1, 2, 10, 11]]).max() < 1e-9


@pytest.mark.parametrize(
    ("faster", "axis", "sign"), [([2, 3], 10, 1), ([0, 1], 10, -1), ([1, 2], 11, 1), ([0, 3], 11, -1)]
)
def test_rotors_on_one_side_turn_the_body_away_from_it(faster, axis, sign):
    start = model.hover_state()
    start[13 + np.array(faster)] += 0.01
    force = model.thrust(start[13 + np.array(faster)]) - model.thrust(np.array([model.HOVER_THROTTLE] * 2))
    change = model.derivative(start, start[model.MOTORS])
    inertia = {10: 9.41656e-6, 11: 9.64405e-6}[axis]
    assert change[axis] == pytest.approx(sign * force.sum() * 0.028 / inertia, rel=1e-9)


def test_tumbling_freely_keeps_angular_momentum_and_energy():
    start = model.hover_state()
    start[model.RATES] = 4.0, -3.0, 2.0
    start[model.ATTITUDE] = np.array([0.5, 0.5, -0.5, 0.5])
    end = fly(start, np.full(4, model.HOVER_THROTTLE), 200)

    def momentum(s):
        return model.rotation(s[model.ATTITUDE]).reshape(3, 3) @ (model.INERTIA * s[model.RATES])

    assert momentum(end) == pytest.approx(momentum(start), rel=1e-6)
    energy = [(model.INERTIA * s[model.RATES] ** 2).sum() for s in (start, end)]
    assert energy[1] == pytest.approx(energy[0], rel=1e-7)
    assert abs(end[11] - start[11]) > 0.1  # x and y differ in inertia, so the body's own rates do not stay
    assert (end[model.ATTITUDE] ** 2).sum() == pytest.approx(1.0, abs=1e-14)


def test_the_integrator_is_of_fourth_order():
    rng = np.random.default_rng(0)
    start, throttle = model.random_state(rng), rng.random(4) * 0.1  # all rotors slow down: no switch of time constants
    start[model.MOTORS] = 0.8
    exact = fly(start, throttle, 800, 0.2 / 800)
    errors = [np.abs(fly(start, throttle, n, 0.2 / n) - exact).max() for n in (5, 10, 20)]
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.3)
    assert errors[1] / errors[2] == pytest.approx(16, rel=0.3)


def test_drones_side_by_side_do_not_touch():
    rng = np.random.default_rng(1)
    states = np.stack([model.random_state(rng) for _ in range(5)])
    throttles = rng.random((5, 4))
    together = model.advance(states, throttles)
    assert together[3] == pytest.approx(model.advance(states[3], throttles[3]), abs=1e-12)


def test_starts_stay_in_the_published_ranges():
    rng = np.random.default_rng(2)
    states = np.stack([model.random_state(rng) for _ in range(4000)])
    hover = (states == model.hover_state()).all(-1)
    assert 0.07 < hover.mean() < 0.13
    others = states[~hover]
    assert 0.48 < np.abs(others[:, :3]).max() <= 0.5
    assert 0.97 < np.abs(others[:, 7:13]).max() <= 1.0
    tilt = np.degrees(2 * np.arccos(others[:, 3]))
    assert 88 < tilt.max() <= 90
    assert tilt.mean() == pytest.approx(45, abs=2)
    assert others[:, 13:].min() >= 0
    assert others[:, 13:].max() <= model.HOVER_THROTTLE
    assert np.array_equal(model.random_state(rng, spread=0.0), model.hover_state())
