"""Exploration is finite for every Box, inside its bounds, and what it plays is what the policy remembers."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.rollout import make_environments
from snn_dt.experimental.finetune.explore import Explorer, gather, noise_deviation, scale_is_known
from tests.odd_environments import ACTIONS, OBSERVATIONS, register_odd
from tests.policies import Scripted, make_policy

STATES = gym.spaces.Box(-1, 1, (2,), np.float32)
SPACES = {
    "bounded": gym.spaces.Box(-2, 2, (2,), np.float32),
    "unbounded": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
    "one side": gym.spaces.Box(0, np.inf, (2,), np.float32),
    "one of two": gym.spaces.Box(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32)),
    "all floats": gym.spaces.Box(-3.4e38, 3.4e38, (2,), np.float32),
    "all doubles": gym.spaces.Box(-1.7e308, 1.7e308, (2,), np.float64),
    "integers": gym.spaces.Box(0, 10, (2,), np.int64),
    "all integers": gym.spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64),
}


def explorer(space: gym.Space, noise: float, deviation=None) -> Explorer:
    model = Scripted(lambda rtg, *_: torch.full((len(rtg), 2), 0.4), discrete=False)
    found = Explorer(make_policy(STATES, space, model=model), noise, 0.0, np.random.default_rng(0), deviation)
    found.reset(1.0, batch_size=4)
    return found


@pytest.mark.parametrize("noise", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("deviation", [None, np.array([0.5, 0.0])])
@pytest.mark.parametrize("name", SPACES)
def test_actions_are_finite_inside_their_space_and_remembered_as_played(name, deviation, noise):
    e = explorer(SPACES[name], noise, deviation)
    with np.errstate(over="raise", invalid="raise"):
        actions = [e.act(np.zeros((4, 2), np.float32)) for _ in range(3)]
    assert np.isfinite(actions).all()
    assert all(a in SPACES[name] for step in actions for a in step)
    remembered = e.model.windows[-1][2][:, -2].numpy()
    np.testing.assert_array_equal(remembered, actions[-2].astype(np.float32))


def test_noise_is_a_share_of_the_half_range_else_of_the_deviation_of_the_data():
    deviation = np.array([0.5, 3.0])
    assert noise_deviation(SPACES["bounded"], 0.1, deviation).tolist() == pytest.approx([0.2, 0.2])
    for name in ("unbounded", "one side", "all floats", "all doubles"):
        assert noise_deviation(SPACES[name], 0.1, deviation).tolist() == pytest.approx([0.05, 0.3]), name
    assert noise_deviation(SPACES["one of two"], 0.1, deviation).tolist() == pytest.approx([0.1, 0.3])
    assert noise_deviation(SPACES["unbounded"], 0.1, None).tolist() == pytest.approx([0.1, 0.1])
    assert scale_is_known(SPACES["bounded"], None)
    assert not scale_is_known(SPACES["unbounded"], None)


def test_a_checkpoint_tells_how_far_the_actions_of_its_data_spread():
    e = Explorer(
        make_policy(STATES, SPACES["unbounded"], action_deviation=(0.5, 3.0), model=Scripted(None, discrete=False)),
        *(0.1, 0.0, np.random.default_rng(0)),
    )
    assert e.sigma.tolist() == pytest.approx([0.05, 0.3])


def test_noise_on_integers_plays_integers_that_differ():
    e = explorer(SPACES["integers"], 0.5)
    actions = np.stack([e.act(np.zeros((4, 2), np.float32)) for _ in range(5)])
    assert actions.dtype == np.int64
    assert len(np.unique(actions)) > 3


@pytest.mark.parametrize("kind", ["fine", "reward-of-one", "observation-list", "flag-numpy"])
def test_episodes_gathered_in_an_unusual_environment_are_those_of_the_plain_one(kind):
    episodes = gathered(kind)
    assert [e.rewards.tolist() for e in episodes] == [[1.0] * 3] * 2
    assert all(e.terminated and e.observations.shape == (4, 4) for e in episodes)


@pytest.mark.parametrize(
    "kind", ["raises", "reward-none", "reward-text", "old-api", "observation-larger", "reset-none"]
)
def test_an_environment_that_fails_while_episodes_are_gathered_is_named(kind):
    with pytest.raises(EnvironmentMismatchError, match=f"Odd-{kind}-v0"):
        gathered(kind)


def gathered(kind: str):
    register_odd()
    policy = make_policy(OBSERVATIONS, ACTIONS)
    envs = make_environments(policy, 2, f"Odd-{kind}-v0")
    return gather(Explorer(policy, 0.1, 0.1, np.random.default_rng(0)), envs, 3.0, 2, 0)
