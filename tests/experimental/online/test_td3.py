"""TD3 on sequences: targets by hand, gradients where they belong, none of the defects of the public code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_dt.experimental.online.actor_critic import SpikingActor, TwinCritic, reset_rows
from snn_dt.experimental.online.buffer import Sequences
from snn_dt.experimental.online.config import LearnConfig
from snn_dt.experimental.online.td3 import Learner, counted_steps, smoothed, tanh_excess, td_target

SETTINGS = replace(LearnConfig(), warm_up=4, length=10, policy_delay=1, critic_first=0)


def batch(steps: int = 10, count: int = 3, seed: int = 0) -> Sequences:
    g = torch.Generator().manual_seed(seed)
    return Sequences(
        observations=torch.randn(steps + 1, count, 6, generator=g),
        actions=torch.rand(steps, count, 2, generator=g) * 2 - 1,
        rewards=torch.randn(steps, count, generator=g),
        terminated=torch.zeros(steps, count),
        valid=torch.ones(steps, count, dtype=torch.bool),
        begins=torch.arange(count) == 0,
    )


def learner(settings: LearnConfig = SETTINGS, seed: int = 0, critic: tuple[int, ...] = (16,)) -> Learner:
    torch.manual_seed(seed)
    return Learner(SpikingActor(4, 2, (8, 8), 2.0), TwinCritic(6, 2, critic), settings)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_target_by_hand():
    y = td_target(torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0]), torch.tensor([10.0, 10.0]), 0.9)
    assert y.tolist() == [10.0, 1.0]


def test_the_target_is_the_smaller_judgement_of_the_target_actors_noisy_action_at_the_next_state():
    one, b = learner(), batch()
    with torch.no_grad():
        proposed = one.target_actor(b.observations)[0][1:]
        eps = (0.2 * torch.randn(proposed.shape, generator=noise(7))).clamp(-0.5, 0.5)
        q = torch.stack(one.target_critic(b.observations[1:], (proposed + eps).clamp(-1, 1)))
    torch.testing.assert_close(one.targets(b, noise(7)), b.rewards + 0.99 * q.min(0).values)


def test_smoothing_touches_neither_the_recorded_actions_nor_what_it_is_given():
    one, b = learner(), batch()
    before, actions = b.actions.clone(), torch.zeros(5, 2)
    noisy = smoothed(actions, 0.2, 0.5, noise())
    assert actions.eq(0).all()
    assert noisy.ne(0).any()
    assert smoothed(actions, 100.0, 0.5, noise()).abs().max() == 0.5
    seen = []
    one.critic.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1].clone()))
    one.update(b, 0.2, noise())
    assert torch.equal(b.actions, before)
    assert torch.equal(seen[0], before)


def test_a_time_out_is_bootstrapped_and_a_crash_is_not():
    one, b = learner(), batch()
    crashed = b._replace(terminated=torch.eye(10)[9][:, None].expand(10, 3))
    assert torch.equal(one.targets(crashed, noise())[9], b.rewards[9])
    assert not torch.equal(one.targets(b, noise())[9], b.rewards[9])


def test_the_actor_climbs_the_judgement_of_its_own_actions():
    one, b = learner(replace(SETTINGS, actor_rate=3e-2)), batch()
    one.actor_loss(b, bc_weight=0.0)[0].backward()
    assert all(p.grad is not None for p in one.actor.parameters())
    assert sum(p.grad.abs().sum() for p in one.actor.parameters()) > 0
    # In earnest: with the critic held, what it says of the actor's actions goes up.
    first = one.actor_loss(b, 0.0)[1]["q"]
    for _ in range(50):
        one.update_actor(b, 0.0)
    assert one.actor_loss(b, 0.0)[1]["q"] > first + 0.02


def test_without_a_guide_or_a_copy_td3_finds_the_action_that_pays_best():
    settings = replace(SETTINGS, actor_rate=1e-2, critic_rate=1e-2, tau=0.1, gamma=0.0, critic_first=100)
    one = learner(settings, critic=(32, 32))
    for i in range(300):
        b = batch(count=16, seed=i)
        one.update(b._replace(rewards=-(b.actions - 0.5).abs().sum(-1)), 0.0, noise(i))
    chosen = one.actor(batch(seed=1000).observations)[0][4:].detach()
    np.testing.assert_allclose(chosen.mean((0, 1)), 0.5, atol=0.15)


def test_the_actors_update_leaves_the_critics_alone():
    one, b = learner(), batch()
    before = [p.clone() for p in one.critic.parameters()]
    one.update_actor(b, 0.2)
    assert all(torch.equal(p, old) for p, old in zip(one.critic.parameters(), before, strict=True))
    assert all(p.requires_grad and p.grad is None for p in one.critic.parameters())


def test_only_valid_steps_after_the_warm_up_are_in_the_actors_loss():
    one, b = learner(), batch()
    b = b._replace(valid=torch.arange(10)[:, None].expand(10, 3) < 8)

    def loss(actions: torch.Tensor) -> float:
        return one.actor_loss(b._replace(actions=actions), 1.0)[0].item()

    changed = b.actions.clone()
    changed[:4] += 1.0  # warm-up
    changed[8:] += 1.0  # pads
    assert loss(changed) == loss(b.actions)
    changed[4] += 1.0
    assert loss(changed) > loss(b.actions)


def test_the_warm_up_still_shapes_the_state_of_the_steps_that_count():
    one, b = learner(), batch()
    other = b.observations.clone()
    other[:4] = 3.0
    assert one.actor_loss(b, 0.2)[0] != one.actor_loss(b._replace(observations=other), 0.2)[0]


def changed_by(update: int, settings: LearnConfig, bc_weight: float) -> tuple[bool, dict[str, float]]:
    """Whether update number `update` changes the actor, and what it reports."""
    one, b = learner(settings), batch()
    for i in range(update):
        before = [p.clone() for p in one.actor.parameters()]
        report = one.update(b, bc_weight, noise(i))
    same = all(torch.equal(p, old) for p, old in zip(one.actor.parameters(), before, strict=True))
    return not same, report


def test_an_actor_copies_alone_until_its_critics_have_begun_to_learn():
    settings = replace(SETTINGS, critic_first=3)
    changed, report = changed_by(3, settings, 0.2)
    assert changed
    assert report["loss"] == pytest.approx(0.2 * report["bc_error"])
    assert "q" not in report
    assert "critic_loss" in report
    assert "q" in changed_by(4, settings, 0.2)[1]


def test_an_actor_that_is_not_to_copy_waits_for_its_critics():
    settings = replace(SETTINGS, critic_first=3)
    assert not changed_by(3, settings, 0.0)[0]
    assert changed_by(4, settings, 0.0)[0]


def test_an_actor_at_the_end_of_its_range_is_still_called_back():
    u = torch.tensor([0.5, -5.0], requires_grad=True)
    beyond = tanh_excess(torch.tanh(u))
    torch.testing.assert_close(beyond, torch.tensor([0.0, 4.0]), rtol=1e-3, atol=1e-3)
    beyond.sum().backward()
    torch.testing.assert_close(u.grad, torch.tensor([0.0, -1.0]), rtol=1e-2, atol=1e-2)


def test_a_batch_without_a_step_after_the_warm_up_changes_no_actor():
    one, b = learner(), batch()
    before = [p.clone() for p in one.actor.parameters()]
    assert one.update_actor(b._replace(valid=torch.arange(10)[:, None].expand(10, 3) < 4), 0.2) == {}
    assert all(torch.equal(p, old) for p, old in zip(one.actor.parameters(), before, strict=True))


def test_behaviour_cloning_alone_asks_no_critic_and_copies():
    one, b = learner(replace(SETTINGS, q_weight=0.0, actor_rate=3e-2)), batch()
    b = b._replace(actions=torch.full_like(b.actions, 0.4))
    one.critic.register_forward_pre_hook(lambda *_: pytest.fail("a critic was asked"))
    first = one.update(b, 1.0, noise())["bc_error"]
    for _ in range(60):
        last = one.update(b, 1.0, noise())["bc_error"]
    assert last < 0.1 * first


def test_the_parts_of_the_actors_loss_add_up_to_it():
    one, b = learner(), batch()
    loss, parts = one.actor_loss(b, bc_weight=0.3)
    with torch.no_grad():
        actions = one.actor(b.observations[:-1])[0][4:]
        q = one.critic.first(b.observations[4:-1], actions)
        error = (actions - b.actions[4:]).square().sum(-1).mean()
        beyond = (torch.atanh(actions).abs() - 1).clamp_min(0).square().sum(-1).mean()
    torch.testing.assert_close(loss.detach(), -2.0 * q.mean() / q.abs().mean() + 0.3 * error + 0.01 * beyond)
    assert parts["bc_error"] == pytest.approx(error.item())


def test_an_actor_fed_step_by_step_acts_as_on_the_whole_sequence_and_rows_can_be_put_to_rest():
    actor, observations = learner().actor, batch().observations
    whole, _ = actor(observations)
    state, steps = None, []
    for now in observations:
        action, state = actor(now[None], state)
        steps.append(action)
    torch.testing.assert_close(torch.cat(steps), whole)
    fresh = reset_rows(state, torch.tensor([False, True, False]))
    again, _ = actor(observations[:1], fresh)
    first, _ = actor(observations[:1])
    assert torch.equal(again[0, 1], first[0, 1])
    assert not torch.equal(fresh[0].v_mem[0], torch.zeros(8))


def test_the_take_off_counts_only_where_it_is_asked_for_and_is_one():
    one, b = learner(replace(SETTINGS, count_take_off=True)), batch()
    assert counted_steps(b, SETTINGS)[:4].sum() == 0
    counted = counted_steps(b, one.config)
    assert counted[:4, 0].all()  # this sequence begins with its flight
    assert not counted[:4, 1:].any()
    assert counted[4:].all()
