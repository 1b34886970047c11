"""Fine-tuning: hindsight labels, the shift to what is asked for, transitions, targets, gradients."""

from __future__ import annotations

import copy
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.data.source import Episode
from snn_dt.errors import ConfigError
from snn_dt.evaluation.policy import Policy
from snn_dt.experimental.finetune.config import UpdateConfig
from snn_dt.experimental.finetune.explore import Explorer, gather
from snn_dt.experimental.finetune.replay_buffer import ReplayBuffer
from snn_dt.experimental.finetune.update import FineTuner, with_target_return
from tests.conftest import CountdownEnv
from tests.policies import countdown_policy, make_policy

BOX = gym.spaces.Box(np.array([-2.0, -1.0], np.float32), np.array([2.0, 3.0], np.float32))
SETTINGS = UpdateConfig(critic_hidden=(16,), q_weight=1.0)


def continuous(**options) -> Policy:
    return make_policy(action_space=BOX, kind="snn_dt", **options)


def episode(steps: int, terminated: bool, reward: float = 1.0) -> Episode:
    count = np.arange(steps + 1, dtype=np.float32)
    actions = np.tile(np.array([0.5, 1.5], np.float32), (steps, 1))
    return Episode(np.stack([count, count], 1), actions, np.full(steps, reward), terminated, not terminated)


def filled(policy: Policy, *episodes: Episode) -> ReplayBuffer:
    replay = ReplayBuffer(policy, capacity=10)
    replay.add(list(episodes))
    return replay


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_new_episodes_are_labelled_with_the_return_that_followed():
    data = filled(continuous(), episode(4, True), episode(2, False, reward=3.0)).training_data(0.5).trajectories
    assert data.returns_to_go.tolist() == [4, 3, 2, 1, 6, 3]
    assert data.episode_returns.tolist() == [4, 6]
    assert data.observations[:, 0].tolist() == [0, 1, 2, 3, 0, 1]


def test_with_delayed_rewards_they_are_labelled_as_the_policys_data():
    data = filled(continuous(delayed=True), episode(3, True)).training_data(0.5).trajectories
    assert data.rewards.tolist() == [0, 0, 3]
    assert data.returns_to_go.tolist() == [3, 3, 3]


def test_windows_are_in_the_units_of_the_policy_not_of_the_new_episodes():
    policy = continuous(mean=1.0, std=2.0)
    windows, returns = filled(policy, episode(4, True)).training_data(0.5).batch(50, np.random.default_rng(0))
    last = windows.states[:, -1, 0]
    assert set(last.tolist()) == {-0.5, 0.0, 0.5, 1.0}
    assert torch.equal(returns, torch.full((50,), 0.4))  # rtg_scale is 10


def test_the_model_imitates_the_best_episodes_and_critics_see_all():
    replay = filled(continuous(), episode(4, True), episode(4, True, reward=3.0), episode(4, True, reward=2.0))
    rng = np.random.default_rng(0)
    for fraction, expected in ((0.3, {1.2}), (0.6, {1.2, 0.8}), (1.0, {1.2, 0.8, 0.4})):
        source = replay.training_data(0.5, fraction)
        assert set(np.round(source.batch(100, rng)[1].tolist(), 3)) == expected
        assert set(source.transitions(100, rng).rewards.tolist()) == {1, 2, 3}


def test_asking_turns_a_window_into_that_of_a_rollout_with_another_target():
    windows, returns = filled(continuous(), episode(4, True)).training_data(0.5).batch(50, np.random.default_rng(0))
    shown = with_target_return(windows, returns, 0.9).rtg[..., 0]
    expected = torch.where(windows.attention_mask, 0.9 - windows.timesteps / 10, torch.zeros(()))
    torch.testing.assert_close(shown, expected)  # one reward of 1 a step has been taken off


def test_a_step_leads_to_the_next_a_crash_to_nothing_and_the_step_before_a_time_out_does_not_count():
    source = filled(continuous(), episode(4, True), episode(3, False)).training_data(0.5)
    steps = source.transitions(400, np.random.default_rng(0))
    moved = steps.next_states[:, 0] - steps.states[:, 0]
    length = (steps.returns * 10).round()
    last = steps.states[:, 0] == length - 1
    assert torch.equal(moved == 0, last)
    assert torch.equal(steps.terminated.bool(), last & (length == 4))
    assert torch.equal(~steps.known, last & (length == 3))
    assert torch.equal(steps.next_window.states[:, -1], steps.next_states)


def test_critics_learn_the_value_of_a_crash_exactly_and_bootstrap_otherwise():
    policy = continuous()
    source = filled(policy, episode(1, True, reward=5.0)).training_data(0.5)
    tuner = FineTuner(policy.model, replace(SETTINGS, critic_rate=3e-2))
    for i in range(150):
        tuner.update_critic(source.transitions(8, np.random.default_rng(i)), 0.9, generator())
    one = source.transitions(1, np.random.default_rng(0))
    value = tuner.critic.first(one.states, tuner.to_unit_range(one.actions)).item()
    assert value == pytest.approx(5.0, abs=0.1)
    assert value < 10  # one that took the end for a step would go on to r / (1 - gamma) = 500


@pytest.mark.parametrize("kind", ["dense", "snn_dt-spikes", "snn_dt_stream", "dsformer_tssa"])
def test_every_kind_of_model_can_be_tuned(kind):
    policy = make_policy(action_space=BOX, kind=kind)
    source, tuner = filled(policy, episode(9, True)).training_data(0.5), FineTuner(policy.model, SETTINGS)
    before = [p.clone() for p in policy.model.parameters()]
    parts = tuner.update_critic(source.transitions(4, np.random.default_rng(0)), 0.9, generator())
    parts |= tuner.update_model(*source.batch(4, np.random.default_rng(0)), 0.9)
    assert all(np.isfinite(float(value)) for value in parts.values())
    assert any(not torch.equal(p, old) for p, old in zip(policy.model.parameters(), before, strict=True))


def test_the_loss_is_imitation_minus_judgement_of_the_actions_under_the_target():
    policy = continuous()
    tuner = FineTuner(policy.model, SETTINGS)
    windows, returns = filled(policy, episode(9, True)).training_data(0.5).batch(8, np.random.default_rng(0))
    mask, asked = windows.attention_mask, with_target_return(windows, returns, 2.0)
    with torch.no_grad():
        imitated, own = (
            policy.model(w.rtg, w.states, w.actions, w.timesteps, w.attention_mask) for w in (windows, asked)
        )
        error = ((imitated - windows.actions) / torch.tensor([2.0, 2.0])).square().mean(-1)[mask].mean()
        q = tuner.critic.first(windows.states, tuner.to_unit_range(own))[mask]
    found = tuner.update_model(windows, returns, 2.0)
    torch.testing.assert_close(found["loss"], error)
    torch.testing.assert_close(found["q"], q.mean())
    assert not torch.equal(imitated, own)


def test_discounted_returns_by_hand_and_which_of_them_are_whole():
    source = filled(continuous(), episode(3, True), episode(4, False)).training_data(0.5)  # a horizon of 2 steps
    steps = source.transitions(300, np.random.default_rng(0))
    ends = (steps.returns * 10).round() == 3
    for terminated, expected in ((True, [1.75, 1.5, 1.0]), (False, [1.875, 1.75, 1.5, 1.0])):
        for t, value in enumerate(expected):
            of_step = (ends == terminated) & (steps.states[:, 0] == t)
            assert steps.discounted[of_step].tolist() == [value] * int(of_step.sum())
            assert steps.settled[of_step].tolist() == [terminated or t <= 2] * int(of_step.sum())


def test_critics_and_their_targets_begin_at_the_returns_that_followed():
    source = filled(continuous(), episode(6, True)).training_data(0.5)
    tuner = FineTuner(continuous().model, replace(SETTINGS, critic_rate=1e-2))
    for i in range(300):
        tuner.begin_critic(source.transitions(16, np.random.default_rng(i)))
    steps = source.transitions(50, np.random.default_rng(0))
    for critic in (tuner.critic, tuner.target_critic):
        said = critic.first(steps.states, tuner.to_unit_range(steps.actions))
        assert (said - steps.discounted).abs().mean() < 0.2
        assert steps.discounted.std() > 0.3


def test_critics_see_actions_in_units_of_their_bounds():
    tuner = FineTuner(continuous().model, SETTINGS)
    units = tuner.to_unit_range(torch.tensor([[-2.0, -1.0], [2.0, 3.0], [0.0, 1.0]]))
    assert units.tolist() == [[-1, -1], [1, 1], [0, 0]]


def test_the_model_climbs_the_judgement_of_its_own_actions_at_the_target_and_leaves_critics_alone():
    policy = continuous()
    tuner = FineTuner(policy.model, replace(SETTINGS, q_weight=10.0, learning_rate=1e-2))
    windows, returns = filled(policy, episode(6, True)).training_data(0.5).batch(16, np.random.default_rng(0))
    before = [p.clone() for p in tuner.critic.parameters()]
    first = tuner.update_model(windows, returns, 0.9)["q"]
    for _ in range(20):
        last = tuner.update_model(windows, returns, 0.9)["q"]
    assert last > first + 0.01
    assert all(torch.equal(p, old) for p, old in zip(tuner.critic.parameters(), before, strict=True))
    assert all(p.requires_grad for p in tuner.critic.parameters())


def test_without_a_critic_it_is_supervised_learning_for_choices_too():
    policy = countdown_policy(kind="snn_dt")
    tuner = FineTuner(policy.model, replace(SETTINGS, q_weight=0.0, learning_rate=1e-2))
    assert tuner.critic is None
    replay = ReplayBuffer(policy, 10)
    replay.add([Episode(np.zeros((6, 2), np.float32), np.ones(5, np.int64), np.ones(5), True, False)])
    windows, returns = replay.training_data(0.5).batch(16, np.random.default_rng(0))
    losses = [tuner.update_model(windows, returns, 0.5)["loss"].item() for _ in range(40)]
    assert losses[-1] < 0.3 * losses[0]


def test_a_critic_of_choices_is_a_mistake():
    with pytest.raises(ConfigError, match=r"update.q_weight: expected 0 .* set --update.q_weight 0"):
        FineTuner(countdown_policy().model, SETTINGS)


def test_gathered_episodes_are_whole_and_what_is_remembered_is_what_was_done():
    policy = countdown_policy(kind="snn_dt")
    explorer = Explorer(policy, 0.0, 1.0, np.random.default_rng(0))  # every action drawn
    episodes = gather(explorer, [CountdownEnv(), CountdownEnv()], 5.0, episodes=5, seed=0)
    assert sorted(len(e.rewards) for e in episodes) == [3, 4, 5, 6, 7]
    assert all(e.terminated and len(e.observations) == len(e.actions) + 1 for e in episodes)
    assert 0 < np.concatenate([e.actions for e in episodes]).mean() < 1
    assert all(np.array_equal(e.rewards, e.actions == 1) for e in episodes)
    explorer.reset(5.0, batch_size=2)
    done = [explorer.act(np.zeros((2, 2), np.float32)) for _ in range(3)]
    assert torch.equal(explorer.context.window()[2], torch.from_numpy(np.stack(done, 1)))


def test_noise_stays_within_the_bounds_and_is_in_half_ranges():
    policy = continuous()
    explorer = Explorer(policy, 0.1, 0.0, np.random.default_rng(0))
    explorer.reset(5.0, batch_size=2000)
    noisy = explorer.act(np.zeros((2000, 2), np.float32))
    policy.reset(5.0, batch_size=2000)
    spread = (noisy - policy.act(np.zeros((2000, 2), np.float32))).std(0)
    np.testing.assert_allclose(spread, 0.2, atol=0.02)
    assert (noisy >= BOX.low).all()
    assert (noisy <= BOX.high).all()
    torch.testing.assert_close(explorer.context.window()[2][:, -1], torch.from_numpy(noisy))


def test_a_saved_replay_and_tuner_go_on_alike():
    policies = [continuous(seed=3), continuous(seed=3)]
    tuners = [FineTuner(p.model, SETTINGS) for p in policies]
    replays = [filled(policies[0], episode(6, True), episode(3, False)), ReplayBuffer(policies[1], 10)]

    def update(i: int) -> dict:
        rng = np.random.default_rng(5)
        source = replays[i].training_data(0.5)
        tuners[i].update_critic(source.transitions(4, rng), 0.9, generator())
        return tuners[i].update_model(*source.batch(4, rng), 0.9)

    update(0)
    tuners[1].load_state_dict(copy.deepcopy(tuners[0].state_dict()))
    replays[1].load_state_dict(replays[0].state_dict())
    assert update(0) == update(1)


def test_rollouts_with_a_target_have_the_goal_that_acting_at_it_has():
    windows, returns = filled(continuous(), episode(4, True)).training_data(0.5).batch(5, np.random.default_rng(0))
    windows = replace(windows, goal=torch.zeros(5, 1))
    assert with_target_return(windows, returns, 0.9).goal.flatten().tolist() == pytest.approx([0.9] * 5)
    assert with_target_return(windows, returns, 0.9, aim=0.5).goal.tolist() == [[0.5]] * 5
