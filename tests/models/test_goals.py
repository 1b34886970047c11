"""The goal of an episode: every row hears its own, and a decision pays nothing for it."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from snn_dt.checkpoint import from_pretrained
from snn_dt.config import ModelConfig, config_from_dict
from snn_dt.energy import DecisionMeter
from snn_dt.errors import ConfigError
from snn_dt.evaluation.decide import make_decider
from snn_dt.models.goals import goal_norms, set_goal, takes_goal
from tests.conftest import CONTINUOUS, TINY, VARIANTS, make_batch, make_model, run
from tests.policies import make_policy
from tests.tolerance import assert_mostly_equal

KINDS = ("dense", "snn_dt", "snn_dt-spikes", "snn_dt_stream", "dsformer_pssa")
TASK = dataclasses.replace(CONTINUOUS, goal_edges=(0.3, 0.6), rtg_range=(0.0, 1.0))
GOALS = torch.tensor([[0.1], [0.5], [0.9]])  # one of each bin


def goal_model(kind: str, **changes) -> torch.nn.Module:
    """A model with random gains and shifts of every goal."""
    options = VARIANTS[kind] | {"goal": "bins", "return_code": "quantiles"} | changes
    config: ModelConfig = dataclasses.replace(TINY, **options)
    model = make_model(config, TASK) if "dsformer" not in kind else with_statistics(config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for norm in goal_norms(model):
            norm.gain.copy_(torch.randn(norm.gain.shape, generator=generator) / 2)
            norm.shift.copy_(torch.randn(norm.shift.shape, generator=generator) / 2)
    return model


def with_statistics(config: ModelConfig) -> torch.nn.Module:
    from snn_dt.models import build_model

    torch.manual_seed(0)
    model = build_model(config, TASK).train()
    with torch.no_grad():
        for i in range(30):
            run(model, make_batch(TASK, lengths=(6,) * 3, seed=i), goal=GOALS)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_goal_folded_into_the_norms_gives_the_predictions_of_rows_with_that_goal(kind):
    model, batch = goal_model(kind), make_batch(TASK)
    by_row = run(model, batch, goal=GOALS)
    for row, goal in enumerate(range(3)):
        set_goal(model, goal)
        folded = run(model, batch)
        real = batch.attention_mask[row]
        assert_mostly_equal(folded[row, real], by_row[row, real])
        assert (folded - by_row)[[i for i in range(3) if i != row]].abs().max() > 1e-3, "other goals act differently"


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt-span", "snn_dt_stream"])
def test_the_kernels_follow_a_goal_that_is_set_after_they_were_prepared(kind):
    changes = {"attention_span": 4} if kind == "snn_dt-span" else {}
    model, batch = goal_model(kind.removesuffix("-span"), **changes), make_batch(TASK, lengths=(6, 6, 6))
    decider, found = make_decider(model), []
    if decider.way != "cpp":
        pytest.skip("no C++ compiler")
    for goal in (2, 0, 1):
        set_goal(model, goal)
        inputs = batch.fields
        if kind in ("snn_dt_stream", "snn_dt-span"):
            inputs = (batch.rtg[:, 0], batch.states[:, 0])
            found.append(decider(*inputs, model.rest(3))[0])
            expected = decider.by_modules(*inputs, model.rest(3))[0]
        else:
            found.append(decider(*inputs))
            expected = decider.by_modules(*inputs)
        assert_mostly_equal(found[-1], expected)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_goals_change_nothing_at_first_and_cost_nothing(kind):
    plain = make_model(dataclasses.replace(TINY, **VARIANTS[kind]), TASK)
    model = goal_model(kind, return_code=None)
    model.load_state_dict(plain.state_dict(), strict=False)
    for norm in goal_norms(model):
        norm.gain.zero_()
        norm.shift.zero_()
    set_goal(model, 1)
    batch, counts = make_batch(TASK), []
    assert_mostly_equal(run(model, batch, goal=GOALS), run(plain, batch))
    for m in (plain, model):
        with DecisionMeter(m) as meter:
            run(m, batch, last_only=True)
            meter.count(batch.attention_mask, *([torch.ones(3)] if kind == "snn_dt_stream" else []))
        counts.append(meter.summary())
        assert not meter.uncounted
    for name in ("macs_per_decision", "neuron_updates_per_decision"):
        assert counts[0][name] == counts[1][name]


def test_training_needs_the_goal_of_each_row():
    model = goal_model("dense").train()
    with pytest.raises(ValueError, match="expected the scaled return of each row's episode"):
        run(model, make_batch(TASK))
    loss = run(model, make_batch(TASK), goal=GOALS).square().sum()
    torch.autograd.backward(loss)
    assert all(norm.gain.grad is not None and norm.gain.grad.abs().sum() > 0 for norm in goal_norms(model))


@torch.no_grad()
def test_a_model_acts_with_its_weights_when_it_is_loaded_or_stops_training():
    model, batch = goal_model("dense"), make_batch(TASK)
    set_goal(model, 0)
    expected = run(model, batch)
    other = make_model(model.config, TASK, seed=7)
    set_goal(other, 0)
    other.load_state_dict(model.state_dict())
    assert_mostly_equal(run(other, batch), expected)
    model.train()
    for norm in goal_norms(model):
        norm.gain += 1
    trained = run(model.eval(), batch)
    assert (trained - expected).abs().max() > 1e-3
    set_goal(model, 0)
    assert torch.equal(run(model, batch), trained)


def test_cloning_has_no_goal():
    assert not takes_goal(goal_model("dense", return_conditioned=False))


def goal_policy(kind: str, **spec):
    return make_policy(
        model=goal_model(kind),
        observation_space=box(5),
        action_space=box(2),
        **{"rtg_scale": 100.0, "bin_returns": (10.0, 45.0, 88.0), "return_range": (5.0, 90.0)} | spec,
    )


def box(n: int):
    from gymnasium import spaces

    return spaces.Box(-1, 1, (n,), np.float32)


@pytest.mark.parametrize("kind", ["snn_dt", "snn_dt_stream"])
def test_rows_with_different_targets_decide_as_alone_and_a_state_carries_the_goal(kind):
    policy, rng = goal_policy(kind), np.random.default_rng(0)
    observations = rng.normal(size=(4, 2, 5)).astype(np.float32)

    def act(targets, rows):
        policy.reset(targets, batch_size=len(rows))
        return [policy.act(x[rows]) for x in observations]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no rewards are observed
        together = np.array(act(np.array([20.0, 80.0]), [0, 1]))
        alone = [np.array(act(target, [row]))[:, 0] for row, target in enumerate((20.0, 80.0))]
        assert_mostly_equal(together, np.stack(alone, axis=1))
        policy.reset(20.0)
        state = policy.state()
        expected = policy.act(observations[0, 0])
        policy.reset(80.0)
        policy.load_state(state)
        assert_mostly_equal(policy.act(observations[0, 0]), expected)


@pytest.mark.parametrize("kind", ["dense", "snn_dt_stream"])
def test_a_row_that_begins_again_with_another_target_has_its_goal(kind):
    policy, x = goal_policy(kind), np.ones((2, 5), np.float32)
    policy.reset(20.0, batch_size=2)
    policy.act(x)
    policy.observe(np.zeros(2))
    policy.restart(np.array([1]), 80.0)
    found = policy.act(x)[1]
    policy.reset(80.0)
    assert_mostly_equal(found, policy.act(x[0]))


@pytest.mark.parametrize("kind", ["dense", "snn_dt_stream"])
def test_a_checkpoint_holds_goals_bins_and_what_the_most_is(kind, tmp_path):
    policy = goal_policy(kind, context_length=None if kind == "snn_dt_stream" else 3)
    loaded = from_pretrained(policy.save_pretrained(tmp_path / "policy"))
    assert loaded.spec == policy.spec
    assert loaded.model.task.goal_edges == TASK.goal_edges
    for target in ("most", 20.0):
        for p in (policy, loaded):
            p.reset(target)
        assert_mostly_equal(loaded.act(np.ones(5, np.float32)), policy.act(np.ones(5, np.float32)))


def test_most_is_the_mean_return_of_the_best_bin_and_a_number_beyond_the_data_warns_once():
    policy = goal_policy("dense")
    policy.reset("most")
    assert policy.state()["returns_to_go"].tolist() == [88.0]
    with pytest.warns(UserWarning, match="between 5 and 90, as in the data, found 500"):
        policy.reset(500.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy.reset(600.0)
    with pytest.warns(UserWarning, match="between 5 and 90, as in the data, found 4.5"):
        goal_policy("dense").reset(4.5)
    with pytest.raises(ValueError, match="expected a finite target_return or 'most', found 'best'"):
        policy.reset("best")
    with pytest.raises(ValueError, match="this checkpoint is older"):
        goal_policy("dense", bin_returns=None).reset("most")


def test_a_number_asks_for_the_bin_with_the_nearest_mean_return():
    policy = goal_policy("dense")  # bounds 30 and 60; 52 is nearer to 45 than to 10 and 88, 68 to 88
    for target, bin_return in ((28.0, 45.0), (52.0, 45.0), (68.0, 88.0)):
        policy.reset(target)
        assert policy.state()["goal"].tolist() == [bin_return]
        assert policy.state()["returns_to_go"].tolist() == [target]
    policy.reset(np.array([28.0, 68.0]), batch_size=2)
    assert policy.state()["goal"].tolist() == [45.0, 88.0]


def test_fewer_steps_at_inference_count_fewer_operations():
    counts = []
    for steps in (None, 2):
        policy = goal_policy("snn_dt", context_length=steps)
        policy.reset("most")
        meter = DecisionMeter(policy.model)
        for _ in range(6):
            with policy.through_modules(), meter:
                policy.act(np.zeros(5, np.float32))
                meter.count(*policy.context.counted())
            policy.observe(0.0)
        counts.append(meter.summary()["energy_pj_per_decision"])
    assert counts[1] < 0.7 * counts[0]


def test_the_streaming_model_has_no_linear_code():
    with pytest.raises(ConfigError, match="return_code: expected quantiles for snn_dt_stream"):
        config_from_dict({"model": {"kind": "snn_dt_stream", "return_code": "linear"}})


@torch.no_grad()
def test_a_checkpoint_with_the_code_of_0_3_0_still_loads_and_acts(tmp_path):
    policy = goal_policy("snn_dt")
    policy.model.config = dataclasses.replace(policy.model.config, return_code="code")
    loaded = from_pretrained(policy.save_pretrained(tmp_path / "policy"))
    for p in (policy, loaded):
        p.reset("most")
    assert_mostly_equal(loaded.act(np.ones(5, np.float32)), policy.act(np.ones(5, np.float32)))
