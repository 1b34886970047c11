"""The hover task: Gymnasium's rules, its reward by hand, one drone equal to many."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from snn_dt.data.registration import CRAZYFLIE_HOVER
from snn_dt.experimental.online import crazyflie_model
from snn_dt.experimental.online.crazyflie import (
    HOVER_ACTION,
    TRUTH_DIM,
    CrazyflieHoverVectorEnv,
    Perturbation,
    observe,
    reward,
)
from snn_dt.experimental.online.crazyflie_controller import Pilot, PredictivePilot, rotor_speeds

HOVER = np.full((1, 4), HOVER_ACTION)


@pytest.mark.parametrize("observation", ["plain", "privileged"])
def test_gymnasium_finds_no_fault(observation):
    env = gym.make(CRAZYFLIE_HOVER, observation=observation, render_mode="rgb_array")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    assert {str(w.message).split("value is")[-1] for w in found} <= {
        " -infinity. This is probably too low.\x1b[0m",
        " infinity. This is probably too high.\x1b[0m",
    }


def test_importing_the_package_registers_nothing_and_a_module_prefix_does():
    code = (
        "import sys, snn_dt; assert 'gymnasium' not in sys.modules; import gymnasium;"
        f"assert {CRAZYFLIE_HOVER!r} not in gymnasium.registry;"
        f"print(gymnasium.make('snn_dt.data.registration:{CRAZYFLIE_HOVER}').spec.max_episode_steps)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "500\n"


def test_an_episode_of_hover_returns_500_and_is_truncated_not_terminated():
    env = gym.make(CRAZYFLIE_HOVER, spread=0.0)
    env.reset(seed=0)
    total, over = 0.0, False
    while not over:
        _, r, terminated, truncated, _ = env.step(HOVER[0].astype(np.float32))
        total, over = total + r, terminated or truncated
    assert (terminated, truncated) == (False, True)
    assert total == pytest.approx(500.0, abs=1e-3)


def test_reward_by_hand_at_both_ends_of_the_curriculum():
    state = crazyflie_model.hover_state((0.3, 0.0, -0.4))[None]
    state[0, 3:7] = np.cos(0.5), np.sin(0.5), 0.0, 0.0
    state[0, 7:10] = 1.0, 2.0, -2.0
    action = HOVER + np.array([[0.1, -0.2, 0.0, 0.0]])
    attitude = 0.25 * (2 - 2 * np.cos(0.5))
    assert reward(state, action, 0.0) == pytest.approx(1 - 0.25 - 0.09 - attitude - 0.14 * 0.05)
    assert reward(state, action, 1.0) == pytest.approx(1 - 3.5 * 0.25 - 0.9 - attitude - 0.5 * 0.05)
    assert reward(state, action, 0.5) == pytest.approx(1 - 2.25 * 0.25 - 0.055 * 9 - attitude - 0.32 * 0.05)
    state[0, 3:7] *= -1  # the same attitude
    assert reward(state, action, 0.0) == pytest.approx(1 - 0.25 - 0.09 - attitude - 0.14 * 0.05)


def test_leaving_the_box_terminates_at_60_cm_along_any_axis():
    env = gym.make(CRAZYFLIE_HOVER, spread=0.0)
    env.reset(seed=0)
    steps, terminated = 0, False
    while not terminated:
        observation, _, terminated, truncated, _ = env.step(np.ones(4, np.float32))
        assert not truncated
        steps += 1
        assert terminated == (observation[2] > 0.6)
    assert 20 < steps < 200


def test_observations_are_position_rotation_velocity_rates_and_past_actions():
    env = gym.make(CRAZYFLIE_HOVER, observation="privileged")
    first, _ = env.reset(seed=3)
    state = env.unwrapped.drones.state[0]
    assert first[:3] == pytest.approx(state[:3])
    assert first[12:18] == pytest.approx(state[7:13])
    turned = first[3:12].reshape(3, 3)
    assert turned @ turned.T == pytest.approx(np.eye(3), abs=1e-6)
    assert np.linalg.det(turned) == pytest.approx(1, abs=1e-6)
    assert not first[18:].any()
    actions = env.action_space.sample(), env.action_space.sample()
    for action in actions:
        last = env.step(action)[0]
    assert np.array_equal(last[-8:], np.concatenate(actions))
    assert not last[18:-8].any()
    z_axis = crazyflie_model.hover_state()
    z_axis[3:7] = np.cos(0.25), np.sin(0.25), 0, 0  # tilted about x by 0.5: z points to -y
    assert observe(z_axis[None])[0, 3:12].reshape(3, 3)[:, 2] == pytest.approx([0, -np.sin(0.5), np.cos(0.5)])


def test_the_same_seed_is_the_same_episode_alone_and_in_a_vector():
    many = CrazyflieHoverVectorEnv(3, observation="privileged", autoreset=False)
    one = gym.make(CRAZYFLIE_HOVER, observation="privileged")
    together, _ = many.reset(seed=20)
    alone, _ = one.reset(seed=22)
    assert np.allclose(together[2], alone, rtol=0, atol=1e-7)
    rng = np.random.default_rng(0)
    for _ in range(15):
        actions = rng.uniform(-1, 1, (3, 4)).astype(np.float32)
        o, r, te, _, _ = many.step(actions)
        p, q, tf, _, _ = one.step(actions[2])
        assert np.allclose(o[2], p, atol=1e-7)
        assert r[2] == pytest.approx(q, abs=1e-12)
        assert te[2] == tf
    again, _ = one.reset(seed=22)
    assert np.array_equal(again, alone)
    assert not np.array_equal(one.reset()[0], alone)


def test_a_vector_begins_the_next_episode_by_itself_or_waits_for_a_mask():
    envs = gym.make_vec(CRAZYFLIE_HOVER, 2, "vector_entry_point", max_episode_steps=3, spread=0.5)
    envs.reset(seed=0)
    actions = np.tile(HOVER, (2, 1)).astype(np.float32)
    over = [envs.step(actions)[3].tolist() for _ in range(3)]
    assert over == [[False, False], [False, False], [True, True]]
    first, r, _, truncated, _ = envs.step(actions)
    assert r.tolist() == [0, 0]
    assert not truncated.any()
    assert np.array_equal(first, observe(envs.unwrapped.state))

    waiting = CrazyflieHoverVectorEnv(2, 3, autoreset=False)
    waiting.reset(seed=0)
    for _ in range(3):
        last = waiting.step(actions)[0]
    assert np.array_equal(waiting.step(actions)[0], last)  # stands still
    begun, _ = waiting.reset(options={"reset_mask": np.array([False, True])})
    assert np.array_equal(begun[0], last[0])
    assert not np.array_equal(begun[1], last[1])


def test_the_pilot_keeps_every_drone_and_knows_its_rotors():
    envs = CrazyflieHoverVectorEnv(32, observation="privileged", autoreset=False)
    observations, _ = envs.reset(seed=100)
    pilot, returns = Pilot(), np.zeros(32)
    for _ in range(300):
        observations, rewards, _, _, _ = envs.step(pilot(observations))
        returns += rewards
    assert not envs.over.any()
    assert returns.min() > 150
    assert np.abs(observations[:, :3]).max() < 0.02
    assert rotor_speeds(envs.history) == pytest.approx(envs.state[:, crazyflie_model.MOTORS], abs=0.02)
    assert np.allclose(pilot(observations[0]), pilot(observations[:1])[0], rtol=0, atol=1e-6)


def test_a_frame_shows_the_drone_where_it_is():
    env = gym.make(CRAZYFLIE_HOVER, spread=0.0, render_mode="rgb_array")
    env.reset(seed=0)
    first = env.render()
    for _ in range(30):
        env.step(np.ones(4, np.float32))
    later = env.render()
    assert first.shape == later.shape == (480, 480, 3)
    assert first.dtype == np.uint8
    rows = [np.flatnonzero((np.abs(f.astype(int) - (213, 94, 0)).sum(-1) < 30).any(-1)).mean() for f in (first, later)]
    assert rows[1] < rows[0] - 10  # the rotors have climbed


def test_a_heavier_drone_sinks_a_stronger_one_climbs_and_slow_rotors_come_late():
    def heights(**factors: float) -> float:
        env = CrazyflieHoverVectorEnv(1, None, spread=0.0, autoreset=False)
        env.reset(seed=0)
        env.factors[:] = np.array([factors.get(name, 1.0) for name in ("mass", "thrust", "rotor_lag")])[:, None]
        for _ in range(20):
            env.step(np.full((1, 4), factors.get("action", HOVER_ACTION)))
        return float(env.state[0, 2])

    assert heights(mass=1.2) < -0.01 < 0.01 < heights(thrust=1.1)
    assert abs(heights()) < 1e-9
    assert heights(action=1.0) > heights(action=1.0, rotor_lag=1.3) > 0


def test_a_late_command_arrives_late_and_noise_is_in_the_observation_only():
    prompt, late, noisy = (
        CrazyflieHoverVectorEnv(1, None, spread=0.0, autoreset=False, perturb=perturb)
        for perturb in (Perturbation(), Perturbation(delay=(2, 2)), Perturbation(noise=1.0))
    )
    seen = [env.reset(seed=0)[0] for env in (prompt, late, noisy)]
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    for t in range(6):
        action = np.full((1, 4), 1.0 if t else HOVER_ACTION)
        for env in (prompt, late, noisy):
            env.step(action)
    assert np.array_equal(prompt.state, noisy.state)
    assert late.state[0, 2] < prompt.state[0, 2]
    assert late.late[0] == 2
    for env in (prompt, late):
        env.reset(seed=0)
    commands = np.linspace(0.2, 0.9, 5)
    for own, shifted in zip(commands, (0.0, 0.0, *commands), strict=False):  # before the first command: half throttle
        late.step(np.full((1, 4), own))
        prompt.step(np.full((1, 4), shifted))
    np.testing.assert_allclose(late.state, prompt.state, atol=1e-5)


def test_every_episode_draws_its_own_differences_within_their_ranges():
    perturb = Perturbation(mass=0.2, thrust=0.1, rotor_lag=0.3, delay=(1, 2))
    env = CrazyflieHoverVectorEnv(300, None, autoreset=False, perturb=perturb)
    env.reset(seed=0)
    for row, width in zip(env.factors, (0.2, 0.1, 0.3), strict=True):
        assert 1 - width <= row.min() < 1 - 0.9 * width
        assert 1 + 0.9 * width < row.max() <= 1 + width
    assert set(env.late) == {1, 2}


ALL = Perturbation(0.2, 0.1, 0.3, 1.0, (1, 2))


def test_a_drone_may_remember_its_commands_and_the_guide_also_sees_the_truth():
    plain, privileged = (
        CrazyflieHoverVectorEnv(2, None, kind, autoreset=False, perturb=ALL, commands=3)
        for kind in ("plain", "privileged")
    )
    for env in (plain, privileged):
        assert env.reset(seed=0)[0].shape == env.observation_space.shape
    sent = np.random.default_rng(0).uniform(-1, 1, (4, 2, 4)).astype(np.float32)
    for actions in sent:
        seen, everything = (env.step(actions)[0] for env in (plain, privileged))
    assert np.array_equal(seen, everything[:, :-TRUTH_DIM])
    assert np.array_equal(seen[:, 18:], np.concatenate(sent[1:], axis=1))
    state, factors, late = np.split(everything[:, -TRUTH_DIM:], [17, 20], axis=1)
    assert np.allclose(state, privileged.state, rtol=0, atol=1e-6)
    assert np.allclose(factors, privileged.factors.T, rtol=0, atol=1e-6)
    assert np.array_equal(late[:, 0], privileged.late)
    assert np.abs(everything[:, :3] - state[:, :3]).max() > 1e-3  # only the plain columns are noisy
    with pytest.raises(ValueError, match="at most 32 commands"):
        CrazyflieHoverVectorEnv(commands=33)


def test_the_predictive_pilot_holds_drones_of_every_difference_because_it_knows_mass_and_delay():
    def lasting(**ignored: float) -> float:
        env = CrazyflieHoverVectorEnv(64, None, "privileged", autoreset=False, perturb=ALL, commands=2)
        seen, lasted = env.reset(seed=0)[0], np.ones(64, bool)
        hidden = {"mass": -4, "delay": -1}
        for _ in range(150):
            for name, value in ignored.items():
                seen[:, hidden[name]] = value
            seen, _, terminated, _, _ = env.step(PredictivePilot()(seen))
            lasted &= ~terminated
        return float(lasted.mean())

    assert lasting() >= 0.95
    assert lasting(delay=0.0) < 0.8
    assert lasting(mass=0.8) < lasting()
