"""Whatever an environment does, an evaluation ends: with a result, or with one line that says what it did."""

from __future__ import annotations

import logging

import gymnasium as gym
import numpy as np
import pytest

from snn_dt.data.checked_env import Checked
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.environments import default_cap, make_environment
from snn_dt.evaluation.rollout import evaluate, run_episodes
from tests.odd_environments import ACTIONS, FINE, OBSERVATIONS, REFUSED, Odd, register_odd
from tests.policies import make_policy


@pytest.fixture(autouse=True)
def registered():
    register_odd()


def policy(**spec):
    return make_policy(OBSERVATIONS, ACTIONS, **spec)


@pytest.mark.parametrize("kind", FINE)
def test_what_gymnasium_allows_or_means_gives_the_returns_of_the_plain_environment(kind):
    (row,) = evaluate(policy(), 3.0, episodes=3, num_envs=2, env_id=f"Odd-{kind}-v0")
    assert row["returns"] == [3.0] * 3
    assert run_episodes(policy(), [Odd(kind)], 3.0, 2, 0).returns.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("kind", REFUSED)
def test_what_an_environment_must_not_do_is_one_line_that_names_it(kind):
    for run in (
        lambda: evaluate(policy(), 3.0, episodes=2, num_envs=2, env_id=f"Odd-{kind}-v0"),
        lambda: run_episodes(policy(), [Odd(kind)], 3.0, 2, 0),
    ):
        with pytest.raises(EnvironmentMismatchError) as caught:
            run()
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith("expected ")
        assert "Odd" in message


def test_an_interrupt_inside_an_environment_interrupts(monkeypatch):
    def step(self, action):
        raise KeyboardInterrupt

    monkeypatch.setattr(Odd, "step", step)
    with pytest.raises(KeyboardInterrupt):
        evaluate(policy(), 3.0, episodes=1, env_id="Odd-fine-v0")


def test_an_environment_that_never_ends_is_cut_after_ten_times_the_longest_episode_and_a_warning_says_so(caplog):
    p = policy()
    assert default_cap(p) == max(1000, 10 * p.model.task.n_timesteps)
    with caplog.at_level(logging.WARNING, "snn_dt"):
        (row,) = evaluate(p, 3.0, episodes=2, env_id="Forever-v0", meter_every=50)
    assert row["episode_length_mean"] == row["max_steps"] == default_cap(p)
    assert row["episodes_cut"] == 2
    [line] = caplog.messages
    assert "2 of 2 episodes in Forever-v0 were cut after 1000 steps" in line
    assert "--max-steps" in line


def test_a_cap_that_is_named_cuts_and_one_above_the_environments_limit_does_not(caplog):
    (row,) = evaluate(policy(), 3.0, episodes=2, env_id="Forever-v0", max_steps=7)
    assert (row["episode_length_mean"], row["episodes_cut"]) == (7.0, 2)
    assert "after 7 steps" in caplog.text
    caplog.clear()
    (row,) = evaluate(policy(), 3.0, episodes=2, env_id="Odd-fine-v0", max_steps=3)
    assert (row["episode_length_mean"], row["episodes_cut"]) == (3.0, 0)
    cartpole = gym.make("CartPole-v1")
    p = make_policy(cartpole.observation_space, cartpole.action_space, env_id="CartPole-v1")
    assert make_environment(p, max_steps=10**6).max_steps == 500
    assert caplog.messages == []
    with pytest.raises(ValueError, match="max_steps: expected at least 1"):
        evaluate(policy(), 3.0, episodes=1, env_id="Forever-v0", max_steps=0)


def test_an_observation_that_the_environment_writes_over_is_kept_as_it_was():
    class Reusing(Odd):
        buffer = np.zeros(4, np.float32)

        def step(self, action):
            self.n += 1
            self.buffer += 1
            return self.buffer, 1.0, self.n >= 3, False, {}

        def reset(self, *, seed=None, options=None):
            return self.buffer, {}

    env = Checked(Reusing())
    first, second = env.reset()[0], env.step(0)[0]
    assert first.tolist() == [0.0] * 4
    assert second.tolist() == [1.0] * 4


def test_an_action_that_is_not_finite_is_the_policys_fault():
    env = Checked(gym.make("Pendulum-v1"))
    env.reset(seed=0)
    with pytest.raises(EnvironmentMismatchError, match="expected finite actions from the policy, found"):
        env.step(np.array([np.nan], np.float32))


@pytest.mark.parametrize(
    "space",
    [None, 5, gym.spaces.Text(5), gym.spaces.Graph(gym.spaces.Box(0, 1, (2,)), None), gym.spaces.MultiBinary(4)],
)
def test_an_environment_of_other_spaces_or_none_is_refused(space):
    class Other(Odd):
        action_space = space

    gym.register("Other-v0", entry_point=Other)
    try:
        with pytest.raises(EnvironmentMismatchError, match="expected actions"):
            make_environment(policy(), "Other-v0")
    finally:
        gym.registry.pop("Other-v0")


def test_an_environment_that_fails_as_it_is_closed_changes_no_result(monkeypatch, caplog):
    monkeypatch.setattr(Odd, "close", lambda self: 1 / 0)
    (row,) = evaluate(policy(), 3.0, episodes=1, env_id="Odd-fine-v0")
    assert row["returns"] == [3.0]
    assert "raised ZeroDivisionError" in caplog.text
