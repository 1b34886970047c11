"""The flat form says what the episodes said."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from snn_dt.data.trajectories import Trajectories
from tests.data.toy_episodes import random_episodes

LENGTHS = [5, 1, 12, 3, 40]


def test_returns_to_go_are_the_brute_force_sums_of_the_later_rewards_of_the_episode(trajectories):
    t = trajectories(LENGTHS)
    rewards = [episode["rewards"] for episode in random_episodes(LENGTHS)]
    for e, episode in enumerate(rewards):
        expected = [sum(episode[i:]) for i in range(len(episode))]
        begin, end = t.episode_offsets[e : e + 2]
        np.testing.assert_allclose(t.returns_to_go[begin:end], expected, rtol=1e-6)
        assert t.episode_returns[e] == pytest.approx(sum(episode), rel=1e-6)


def test_returns_to_go_are_accumulated_in_float64(trajectories):
    rewards = np.full(100_000, 0.1)
    observations, actions = np.zeros((100_000, 3), np.float32), np.zeros((100_000, 2), np.float32)
    flags = np.zeros(100_000, bool)
    t = trajectories(
        [1],
        rewards=[rewards],
        observations=[observations],
        actions=[actions],
        terminations=[flags],
        truncations=[flags],
    )
    assert np.cumsum(rewards.astype(np.float32), dtype=np.float32)[-1] != np.float32(10_000)  # what float32 would give
    assert t.returns_to_go[0] == np.float32(10_000)


def test_delayed_mode_moves_all_reward_to_the_last_step_and_keeps_the_return(trajectories):
    dense, delayed = trajectories(LENGTHS), trajectories(LENGTHS, reward_mode="delayed")
    last = delayed.episode_offsets[1:] - 1
    assert np.count_nonzero(np.delete(delayed.rewards, last)) == 0
    np.testing.assert_allclose(delayed.rewards[last], dense.episode_returns, rtol=1e-6)
    np.testing.assert_allclose(delayed.returns_to_go, np.repeat(dense.episode_returns, LENGTHS), rtol=1e-6)
    assert delayed.checksum != dense.checksum


def test_statistics_are_those_of_all_steps_even_far_from_zero(trajectories):
    episodes = random_episodes(LENGTHS)
    shifted = [(e["observations"] * 0.01 + 4096).astype(np.float32) for e in episodes]
    t = trajectories(LENGTHS, observations=shifted)
    everything = np.concatenate([s[:-1] for s in shifted]).astype(np.float64)
    np.testing.assert_allclose(t.state_mean, everything.mean(0), rtol=1e-7)
    np.testing.assert_allclose(t.state_std, everything.std(0), rtol=1e-6)  # E[x^2] - E[x]^2 in float32 gives 0 here


def test_a_constant_dimension_gets_std_one(trajectories):
    observations = [np.c_[np.full(n + 1, 0.1), np.arange(n + 1), np.zeros(n + 1)] for n in LENGTHS]
    t = trajectories(LENGTHS, observations=observations)
    assert t.state_std[0] == t.state_std[2] == 1.0
    assert t.state_std[1] > 1.0


def test_offsets_lengths_and_flags_follow_the_episodes(trajectories):
    t = trajectories(LENGTHS)
    assert t.episode_lengths.tolist() == LENGTHS
    assert (t.n_episodes, t.n_steps, t.max_episode_length) == (5, 61, 40)
    assert t.terminated.tolist() == [True, False, True, False, True]
    assert t.truncated.tolist() == [False, True, False, True, False]
    assert (t.obs_dim, t.action_dim, t.discrete) == (3, 2, False)
    assert t.observations.dtype == t.actions.dtype == t.rewards.dtype == t.returns_to_go.dtype == np.float32
    assert t.action_low.tolist() == [-1, -1]
    assert t.action_high.tolist() == [1, 1]


def test_split_is_a_seeded_shuffled_partition_of_the_episodes(trajectories):
    t = trajectories([2] * 100)
    train, validation = t.split(0.2, seed=3)
    assert len(validation) == 20
    assert sorted([*train, *validation]) == list(range(100))
    assert validation.tolist() != list(range(20))
    assert validation.tolist() != list(range(80, 100))
    np.testing.assert_array_equal(validation, t.split(0.2, seed=3)[1])
    assert validation.tolist() != t.split(0.2, seed=4)[1].tolist()


@pytest.mark.parametrize(("n", "fraction", "expected"), [(100, 0.0, 0), (100, 0.001, 1), (2, 0.9, 1), (1, 0.5, 0)])
def test_split_always_leaves_an_episode_to_train_on(trajectories, n, fraction, expected):
    train, validation = trajectories([2] * n).split(fraction, seed=0)
    assert len(validation) == expected
    assert len(train) == n - expected


def test_checksum_changes_with_any_number_and_with_nothing_else(trajectories):
    original = trajectories(LENGTHS).checksum
    assert trajectories(LENGTHS).checksum == original
    rewards = [episode["rewards"] for episode in random_episodes(LENGTHS)]
    rewards[4][7] += 0.5
    assert trajectories(LENGTHS, rewards=rewards).checksum != original
    assert trajectories(LENGTHS[::-1]).checksum != original


@pytest.mark.parametrize(("fraction", "expected"), [(1.0, [0, 1, 2, 3]), (0.5, [1, 3]), (0.51, [0, 1, 3]), (0.01, [3])])
def test_the_best_episodes_are_those_of_highest_return_that_hold_the_share_of_the_steps(fraction, expected):
    lengths, returns = np.array([2, 4, 3, 1]), np.array([1.0, 2.0, 0.0, 3.0])
    data = SimpleNamespace(episode_lengths=lengths, episode_returns=returns)
    np.testing.assert_array_equal(Trajectories.best(data, np.arange(4), fraction), expected)
    np.testing.assert_array_equal(Trajectories.best(data, np.array([0, 2]), 0.1), [0])


def test_a_representation_names_the_dataset_and_its_size_without_its_arrays():
    rewards = np.array([1.0, 2.0, 4.0])
    ends = np.array([False, True, True])
    data = Trajectories.from_arrays(np.eye(3), np.array([0, 1, 1]), rewards, ends, np.zeros(3, bool), dataset_id="mine")
    assert repr(data) == (
        "Trajectories(dataset_id='mine', env_id=None, episodes=2, steps=3, obs_dim=3, action_space=Discrete(2), "
        "returns=3 to 4)"
    )
