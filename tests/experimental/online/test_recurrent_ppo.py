"""PPO through time: advantages by hand, segments with the membranes of the flight, and that it learns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from snn_dt.experimental.online.config import ActorConfig, LearnConfig, OnlineConfig, TaskConfig
from snn_dt.experimental.online.hover_trainer import make_actor
from snn_dt.experimental.online.method import Moment
from snn_dt.experimental.online.recurrent_ppo import (
    LAMBDA,
    RecurrentPPO,
    Rollout,
    advantages,
    log_probability,
    segments,
)
from snn_dt.experimental.online.task import make_task
from snn_dt.snn.parameters import LIFState


def rollout(rewards, values, values_after, over) -> Rollout:
    nothing = torch.zeros(0)
    arrays = (np.array(x, np.float32) for x in (rewards, values, values_after))
    return Rollout(nothing, nothing, nothing, *arrays, np.array(over), [])


def test_an_advantage_by_hand_does_not_cross_the_end_of_a_flight():
    one = rollout([[1.0], [2.0], [3.0]], [[0.5], [0.5], [0.5]], [[0.5], [0.0], [4.0]], [[False], [True], [True]])
    found = advantages(one, 0.9)[:, 0]
    last, crash = 3.0 + 0.9 * 4.0 - 0.5, 2.0 - 0.5  # a cut flight bootstraps, a crash does not
    np.testing.assert_allclose(found, [1.0 + 0.9 * 0.5 - 0.5 + 0.9 * LAMBDA * crash, crash, last], rtol=1e-6)


def test_every_step_is_in_one_segment_that_stays_in_its_flight():
    rng = np.random.default_rng(0)
    over = rng.random((50, 4)) < 0.1
    over[-1] = True
    counted = np.zeros((50, 4), int)
    for row, first, end in segments(over, 7):
        counted[first:end, row] += 1
        assert 0 < end - first <= 7
        assert not over[first : end - 1, row].any()
    assert (counted == 1).all()


def ppo(**changes) -> RecurrentPPO:
    torch.manual_seed(0)
    task = TaskConfig(drones=4, horizon=60, spread=1.0)
    learn = LearnConfig(method="ppo", critic_first=0, length=20, batch_size=8, critic_hidden=(8,), **changes)
    config = replace(OnlineConfig(), task=task, learn=learn, actor=ActorConfig(hidden=(16, 8)))
    made = make_task(task)
    return RecurrentPPO(config, made, make_actor(config.actor, made.learner_dim, made.action_dim))


def moment(iteration: int = 0) -> Moment:
    return Moment(iteration, 0.0, np.random.default_rng(iteration), torch.Generator().manual_seed(iteration))


def test_a_segment_begins_with_the_membranes_of_the_flight_so_the_policy_that_flew_has_ratio_one():
    one = ppo()
    flown = one._fly(moment())
    assert flown.over.sum() > 4  # crashes among the segments
    found = segments(flown.over, 20)
    assert any(first and not flown.over[first - 1, row] for row, first, _ in found)  # one begins in mid-flight
    for row, first, end in found:
        state = tuple(LIFState(layer[first, row][None]) for layer in flown.membranes)
        with torch.no_grad():
            mean, _ = one.actor(flown.observations[first:end, row, None], state)
            log_p = log_probability(flown.actions[first:end, row], mean[:, 0], one.log_std)
        torch.testing.assert_close(log_p, flown.log_p[first:end, row], atol=1e-3, rtol=1e-3)
    one.config = replace(one.config, learn=replace(one.config.learn, critic_first=1000))
    nothing = torch.zeros(flown.rewards.shape)
    _, _, divergence = one._update(flown, nothing, nothing, np.array(found))
    assert abs(divergence) < 1e-6


def test_a_flight_that_crashed_is_worth_nothing_and_one_that_was_cut_what_its_last_state_is():
    flown = ppo()._fly(moment())
    crashed = flown.over[:-1]
    assert crashed.any()
    assert (flown.values_after[:-1][crashed] == 0).all()
    np.testing.assert_allclose(flown.values_after[:-1][~crashed], flown.values[1:][~crashed], rtol=1e-5, atol=1e-6)
    assert (flown.values_after[-1] != 0).any()


def test_the_policy_moves_towards_actions_of_high_advantage_and_not_when_it_has_moved_far():
    one = ppo(epochs=2, actor_rate=1e-3, divergence=1e9)
    before = [p.clone() for p in one.parameters]
    metrics = one.iterate(moment())
    assert any(not torch.equal(p, old) for p, old in zip(one.parameters, before, strict=True))
    assert metrics["divergence"] > 0
    updates = one.updates
    one.config = replace(one.config, learn=replace(one.config.learn, divergence=1e-12))
    one.iterate(moment(1))
    assert 0 < one.updates - updates < updates


@pytest.mark.slow
def test_it_learns_to_push_where_that_pays():
    one = ppo(epochs=5, actor_rate=3e-3, gamma=0.0)
    step = one.environment.step

    def paid(actions):
        seen, _, *rest = step(actions)
        return seen, -np.abs(actions - 0.5).sum(-1), *rest

    one.environment.step = paid
    first = one._fly(moment()).rewards.mean()
    for i in range(15):
        one.iterate(moment(i))
    assert one._fly(moment(99)).rewards.mean() > 0.7 * first
    assert one._fly(moment(99)).rewards.mean() > first + 0.2


def test_the_actor_waits_for_the_first_updates_of_its_critic():
    one = ppo(epochs=1)
    one.config = replace(one.config, learn=replace(one.config.learn, critic_first=1000))
    before = [[p.clone() for p in net.parameters()] for net in (one.actor, one.value)]
    one.iterate(moment())
    same = [
        all(torch.equal(p, old) for p, old in zip(net.parameters(), olds, strict=True))
        for net, olds in zip((one.actor, one.value), before, strict=True)
    ]
    assert same == [True, False]
