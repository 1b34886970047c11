"""The dense models that a count is held against: the right ones, counted on the same contexts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from snn_dt.config import ModelConfig
from snn_dt.energy import (
    HOROWITZ,
    Count,
    DecisionMeter,
    cached_count,
    cached_decision_transformer,
    decision_transformer,
    dense_count,
    same_tokens,
)
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.rollout import evaluate, run_episodes
from tests.conftest import CONTINUOUS, DISCRETE, TINY, VARIANTS, make_batch, make_model, run
from tests.policies import countdown_policy


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("tokens", ["merged", "interleaved"])
@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "none"])
def test_three_short_contexts_tell_the_cost_of_any(task, tokens, positions):
    config = ModelConfig(kind="dense", d_model=8, n_layers=3, tokens=tokens, positions=positions, context_length=9)
    config, lengths = config.resolved(), (9, 7, 4, 1)
    model, batch = make_model(config, task), make_batch(task, 9, lengths)
    with DecisionMeter(model) as meter:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask)
    moments = float(np.mean(lengths)), float(np.mean(np.square(lengths)))
    predicted, counted = (dataclasses.astuple(c)[:3] for c in (dense_count(config, task, *moments), meter.total()))
    assert predicted == pytest.approx(counted, rel=1e-12)


def test_the_yardsticks_are_the_dense_model_on_the_same_tokens_and_the_standard_one():
    config = dataclasses.replace(TINY, **VARIANTS["dsformer_pssa"]).resolved()
    twin, standard = same_tokens(config), decision_transformer(config)
    for dense in (twin, standard):
        assert (dense.kind, dense.d_model, dense.n_layers, dense.mlp_ratio) == ("dense", 16, 2, 4)
    assert (twin.tokens, twin.positions) == ("merged", "none")
    assert (standard.tokens, standard.positions) == ("interleaved", "learned")


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.endswith("-span")])
def test_a_model_is_held_against_dense_ones_at_the_same_fill_of_the_context(variant):
    config = dataclasses.replace(TINY, **VARIANTS[variant]).resolved()
    batch, energies = make_batch(DISCRETE, 6, (6, 5, 2)), {}
    for name, each in {"own": config, "same": same_tokens(config), "dt": decision_transformer(config)}.items():
        model = make_model(each, DISCRETE)
        with DecisionMeter(model) as meter:
            run(model, batch, last_only=True)
            meter.count(batch.attention_mask)
        energies[name] = HOROWITZ.energy_pj(meter.total())
        if name == "own":
            summary = meter.summary()
    assert summary["energy_vs_same_tokens"] == pytest.approx(energies["own"] / energies["same"], rel=1e-9)
    assert summary["energy_vs_dt"] == pytest.approx(energies["own"] / energies["dt"], rel=1e-9)
    assert summary["context_steps"] == pytest.approx(13 / 3)


def test_a_decision_transformer_costs_as_much_as_itself():
    (row,) = evaluate(countdown_policy(kind="dense"), [4.0], episodes=5, seed=0)
    assert row["energy_vs_same_tokens"] == pytest.approx(1, rel=1e-12)
    assert row["energy_vs_dt"] == pytest.approx(1, rel=1e-12)


def test_a_policy_that_decides_on_fewer_steps_is_held_against_dense_ones_on_as_few():
    policy = countdown_policy(kind="dense", context_length=2)
    (row,) = evaluate(policy, [4.0], episodes=5, seed=0)
    assert row["context_steps"] == pytest.approx(2 - 5 / sum(3 + seed % 5 for seed in range(5)))
    assert row["energy_vs_dt"] == pytest.approx(1, rel=1e-12)


def test_the_standard_model_has_neither_goals_nor_a_code_nor_a_learned_deviation():
    task = dataclasses.replace(CONTINUOUS, goal_edges=(0.5,), rtg_range=(0.0, 1.0))
    plain = dataclasses.replace(TINY, kind="snn_dt").resolved()
    other = dataclasses.replace(plain, goal="bins", return_code="quantiles", loss="likelihood")
    for yardstick in (same_tokens, decision_transformer, cached_decision_transformer):
        assert yardstick(other) == yardstick(plain)
    sizes = [sum(DecisionMeter(make_model(c, task)).parameter_bytes.values()) for c in (other, plain)]
    without = sum(DecisionMeter(make_model(dataclasses.replace(other, loss="action"), task)).parameter_bytes.values())
    assert sizes[0] == without > sizes[1], "the learned deviation is for training only"


@pytest.mark.parametrize("kind", ["snn_dt", "dsformer_tssa", "dsformer_pssa"])
def test_a_rollout_reports_the_mean_over_its_decisions(kind):
    policy = countdown_policy(kind=kind)
    (row,) = evaluate(policy, [4.0], episodes=5, seed=0)
    meters = [run_episodes(policy, [make_environment(policy)], 4.0, 1, seed).meter for seed in range(5)]
    decisions = sum(meter.decisions for meter in meters)
    total = sum((meter.total() * meter.decisions for meter in meters), Count()) / decisions
    assert decisions == sum(3 + seed % 5 for seed in range(5))
    assert row["spikes_per_decision"] == pytest.approx(total.spikes, rel=1e-4)
    assert row["energy_pj_per_decision"] == pytest.approx(HOROWITZ.energy_pj(total), rel=1e-4)
    modules = [meter.modules() for meter in meters]
    for name, module in row["by_module"].items():
        means = [m[name]["acs"] * meter.decisions for m, meter in zip(modules, meters, strict=True)]
        assert module["acs"] == pytest.approx(sum(means) / decisions, rel=1e-3, abs=1e-9), name


def test_a_count_leaves_the_random_numbers_of_a_training_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    dense_count(ModelConfig(kind="dense", d_model=12).resolved(), DISCRETE, 2.0, 4.0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_four_decisions_tell_the_cost_of_a_dense_model_with_kept_keys_and_values_at_any_age(task):
    config = dataclasses.replace(TINY, kind="dense", attention_span=5, context_length=10, n_layers=3).resolved()
    model = make_model(config, task)
    state, ages = model.rest(2), range(1, 14)
    with torch.no_grad(), DecisionMeter(model) as meter:
        for n in ages:
            model.step(torch.zeros(2, 1), torch.zeros(2, task.state_dim), state)
            meter.count(torch.ones(2, 1, dtype=torch.bool), torch.tensor([n, n]))
    counted = meter.total_with_memory()
    shares = 1 / len(ages), sum(n > 5 for n in ages) / len(ages)
    predicted = cached_count(config, task, float(np.mean([min(n, 5) for n in ages])), *shares)
    assert dataclasses.astuple(predicted) == pytest.approx(dataclasses.astuple(counted), rel=1e-9)
    assert cached_decision_transformer(dataclasses.replace(config, positions=None)).attention_span == 5
    summary = meter.summary()
    for name in ("energy_vs_cached_dt", "memory_vs_cached_dt", "total_vs_cached_dt"):
        assert summary[name] == pytest.approx(1, rel=1e-9), name
    # 3 S + 2 tokens, keys and values, width 16, three layers, of which decision n has filled 3 n - 1 tokens.
    filled = np.mean([min(3 * n - 1, 17) for n in ages])
    assert summary["by_module"]["kept keys and values"]["state_bytes"] == pytest.approx(4 * filled * 2 * 16 * 3)


def test_a_window_is_compared_with_kept_keys_and_values_of_as_many_steps():
    model, batch = make_model(dataclasses.replace(TINY, kind="dense"), DISCRETE), make_batch(DISCRETE, 6, (6, 6))
    with DecisionMeter(model) as meter:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask, torch.tensor([6, 30]))
    cached = cached_decision_transformer(model.config)
    assert (cached.attention_span, cached.tokens, cached.kind) == (6, "interleaved", "dense")
    ratio = HOROWITZ.energy_pj(meter.total()) / HOROWITZ.energy_pj(cached_count(cached, DISCRETE, 6.0, 0.0, 0.5))
    assert meter.summary()["energy_vs_cached_dt"] == pytest.approx(ratio)
    assert 4 < ratio < 6  # 17 tokens are computed instead of three
