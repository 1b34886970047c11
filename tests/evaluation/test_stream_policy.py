"""A streaming policy decides from its state alone: the same as the parallel form, for ever, and can be put away."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.energy import DecisionMeter
from snn_dt.errors import CheckpointError
from snn_dt.evaluation.decide import make_decider
from snn_dt.evaluation.raster import record_raster
from snn_dt.evaluation.stream_context import StreamContext
from snn_dt.models.stream_fused import knows_step
from tests.conftest import CONTINUOUS, DISCRETE, VARIANTS, make_batch, make_model, run
from tests.models.test_stream import CONFIG, doubled
from tests.policies import TWO, countdown_policy, make_policy
from tests.tolerance import assert_mostly_equal

ACTIONS = gym.spaces.Box(np.float32([-2, -1]), np.float32([2, 3]))
TASKS = {
    "discrete": (dataclasses.replace(DISCRETE, rtg_range=(0.2, 0.8)), "hard"),
    "continuous": (CONTINUOUS, "soft"),
    "unbounded": (dataclasses.replace(CONTINUOUS, action_low=None, action_high=None), "none"),
}
needs_compiler = pytest.mark.skipif(not knows_step(make_model(CONFIG, DISCRETE)), reason="no C++ compiler")


def decisions(step, batch, state) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Predictions `[B, K, A]` of a step function, and the state after each step."""
    predictions, states = [], []
    for t in range(batch.states.shape[1]):
        y, state = step(batch.rtg[:, t], batch.states[:, t], state)
        predictions.append(y)
        state["action"] = batch.actions[:, t]
        states.append({name: x.clone() for name, x in state.items()})
    return torch.stack(predictions, 1), states


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("name", TASKS)
@torch.inference_mode()
def test_a_thousand_fused_steps_are_the_parallel_form_and_leave_every_membrane_as_the_modules_do(name):
    task, reset = TASKS[name]
    model = make_model(dataclasses.replace(CONFIG, reset=reset), task).double()
    batch = doubled(make_batch(task, 1000, (1000, 1000)))
    fused, states = decisions(make_decider(model, "cpp"), batch, model.rest(2))
    torch.testing.assert_close(fused, run(model, batch), rtol=0, atol=1e-12)
    _, expected = decisions(model.step, batch, model.rest(2))
    for one, other in zip(states, expected, strict=True):  # a spike more or less would move a membrane by the threshold
        for key, x in one.items():
            torch.testing.assert_close(x, other[key], rtol=0, atol=1e-11, msg=key)


@pytest.mark.parametrize("actions", [TWO, ACTIONS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("modules", [False, True], ids=["fused", "modules"])
def test_an_episode_is_decided_as_the_parallel_form_would_over_all_of_it(actions, modules):
    policy = make_policy(action_space=actions, kind="snn_dt_stream", rtg_scale=10.0)
    rng = np.random.default_rng(0)
    observations, rewards = rng.normal(size=(60, 2)).astype(np.float32), rng.normal(size=60)
    policy.reset(7.0)
    done = []
    with policy.through_modules() if modules else nullcontext():
        for observation, reward in zip(observations, rewards, strict=True):
            done.append(policy.act(observation))
            policy.observe(reward)
    rtg = torch.tensor((7.0 - np.concatenate([[0], rewards.cumsum()[:-1]])) / 10).float().view(1, -1, 1)
    taken = torch.as_tensor(np.array(done))[None]
    mask = torch.ones(1, 60, dtype=torch.bool)
    with torch.no_grad():
        whole = policy.model(rtg, torch.tensor(observations)[None], taken, None, mask)[0]
    if policy.model.discrete:
        assert_mostly_equal(whole.argmax(-1), done)
        assert 0 < np.mean(done) < 1
    else:
        assert_mostly_equal(whole.numpy().clip(actions.low, actions.high), done, atol=1e-4)


def test_what_is_remembered_does_not_grow():
    policy = make_policy(kind="snn_dt_stream")
    policy.reset(5.0)
    sizes = set()
    for _ in range(300):
        policy.act(np.ones(2))
        sizes.add(sum(x.nbytes for x in policy.state().values()))
    assert len(sizes) == 1


def test_a_decision_costs_the_same_operations_at_any_age():
    policy = make_policy(kind="snn_dt_stream")
    policy.reset(5.0)
    counts = []
    for step in range(200):
        with DecisionMeter(policy.model) as meter:
            policy.act(np.ones(2))
            meter.count(*policy.context.counted())
        if step in (1, 199):
            counts.append(meter.total())
            assert meter.summary()["context_steps"] == min(step + 1, policy.model.context_length)
    assert counts[0].macs == counts[1].macs > 0
    assert counts[0].neuron_updates == counts[1].neuron_updates > 0
    assert counts[1].spikes > 0, "the modules are what a meter watches"


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_running_policy_is_saved_and_goes_on_in_another_one_as_if_nothing_had_happened(kind, tmp_path):
    policies = [make_policy(action_space=ACTIONS, kind=kind) for _ in range(2)]
    observations = np.random.default_rng(0).normal(size=(30, 3, 2)).astype(np.float32)
    policies[0].reset([5.0, 2.0, 9.0], batch_size=3)
    for step, observation in enumerate(observations[:15]):
        policies[0].act(observation)
        policies[0].observe(np.ones(3))
        if step == 8:
            policies[0].restart(np.array([1]), 3.0)
    torch.save(policies[0].state(), tmp_path / "state.pt")
    kept = policies[0].state()
    policies[1].load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for observation in observations[15:]:
        actions = [policy.act(observation) for policy in policies]
        np.testing.assert_array_equal(*actions)
        for policy in policies:
            policy.observe(np.ones(3))
    policies[0].load_state(kept)  # what was taken has not moved meanwhile
    np.testing.assert_array_equal(policies[0].act(observations[15]), _again(policies[1], kept, observations[15]))


def _again(policy, state, observation):
    policy.load_state(state)
    return policy.act(observation)


def test_one_running_episode_stays_one_when_it_is_loaded():
    policy = make_policy(kind="snn_dt_stream")
    policy.reset(5.0)
    policy.act(np.ones(2))
    other = make_policy(kind="snn_dt_stream")
    other.load_state(policy.state())
    assert isinstance(other.act(np.ones(2)), int)


@pytest.mark.parametrize("kind", ["dense", "snn_dt"])
def test_the_state_of_another_model_is_refused_and_the_running_episode_goes_on(kind):
    policy, other = make_policy(kind="snn_dt_stream"), make_policy(kind=kind)
    for each in (policy, other):
        each.reset(5.0)
        each.act(np.ones(2))
    before = policy.state()
    for state in (other.state(), {}, {"single": torch.tensor(True)}):
        with pytest.raises(CheckpointError, match="expected the state of a running policy with this model"):
            policy.load_state(state)
    assert all(torch.equal(x, before[name]) for name, x in policy.state().items())


def test_a_policy_that_does_not_run_has_no_state():
    with pytest.raises(RuntimeError, match=r"expected policy\.reset"):
        make_policy(kind="snn_dt_stream").state()


def test_restarted_and_kept_rows_are_those_asked_for():
    model = make_model(CONFIG, DISCRETE)
    context, decide = StreamContext(model, 4, torch.device("cpu")), make_decider(model)
    for _ in range(5):
        context.decide(decide, torch.ones(4), torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
        context.set_action(torch.tensor([0, 1, 2, 1]))
    before = {name: x.clone() for name, x in context.state.items()}
    context.restart(torch.tensor([1, 3]))
    for name, x in context.state.items():
        assert not x[[1, 3]].any(), name
        assert torch.equal(x[[0, 2]], before[name][[0, 2]]), name
    context.keep(torch.tensor([2, 3]))
    assert context.age.tolist() == [5, 0]
    assert torch.equal(context.state["blocks.0.sum"][0], before["blocks.0.sum"][2])
    assert before["blocks.0.sum"][2].any()


def test_a_raster_has_one_step_of_every_neuron_per_decision():
    policy = countdown_policy(kind="snn_dt_stream")
    trains = record_raster(policy, 3.0, decisions=4, seed=4)  # an episode of 7 steps
    assert len(trains) == 10
    assert {x.shape for x in trains.values()} == {(4, 16), (4, 48), (4, 64)}
    assert trains["blocks.0.lif_in"].any()


@pytest.mark.parametrize("kind", ["dense-span", "snn_dt-span"])
def test_an_episode_with_a_span_is_decided_as_the_model_would_over_all_of_it(kind):
    policy = make_policy(action_space=ACTIONS, kind=kind, rtg_scale=10.0)
    rng = np.random.default_rng(0)
    observations, rewards = rng.normal(size=(40, 2)).astype(np.float32), rng.normal(size=40)
    policy.reset(7.0)
    done = []
    for observation, reward in zip(observations, rewards, strict=True):
        done.append(policy.act(observation))
        policy.observe(reward)
    rtg = torch.tensor((7.0 - np.concatenate([[0], rewards.cumsum()[:-1]])) / 10).float().view(1, -1, 1)
    window = rtg, torch.tensor(observations)[None], torch.as_tensor(np.array(done))[None], torch.arange(40)[None]
    with torch.no_grad():
        whole = policy.model(*window, torch.ones(1, 40, dtype=torch.bool))[0]
    assert_mostly_equal(whole.numpy().clip(ACTIONS.low, ACTIONS.high), done, atol=1e-4)
