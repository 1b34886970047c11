"""A policy that learns while it acts: from the return it observed, within a bound, and never into its checkpoint."""

from __future__ import annotations

import dataclasses
import json
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from snn_dt.checkpoint import from_pretrained
from snn_dt.cli.main import main
from snn_dt.config import PlasticityConfig
from snn_dt.energy import DecisionMeter
from snn_dt.errors import ConfigError
from snn_dt.evaluation.rollout import evaluate
from tests.conftest import ROOT
from tests.policies import countdown_policy, make_policy

ON = PlasticityConfig(eta=0.5, decay=0.5)
CARTPOLE = ROOT / "results/pretrained/cartpole-snn_dt"


def weights_of(policy):
    return {name: value.clone() for name, value in policy.model.state_dict().items()}


def episode(policy, rewards, asked=5.0, seed=0):
    """One episode of given rewards; returns what the head read and said in each step."""
    seen = []
    hook = policy.model.head.register_forward_hook(lambda _, x, y: seen.append((x[0][0, -1].clone(), y[0, -1].clone())))
    policy.reset(asked)
    for t, reward in enumerate(rewards):
        policy.act(np.full(2, 0.1 * t + seed, np.float32))
        policy.observe(reward)
    hook.remove()
    return seen


@pytest.mark.parametrize("post", ["output", "error"])
@pytest.mark.parametrize("kind", ["snn_dt", "snn_dt_stream"])
def test_an_episode_teaches_the_trace_times_the_error_of_its_return(kind, post):
    policy = make_policy(kind=kind)  # rtg_scale 10
    policy.adapt(dataclasses.replace(ON, post=post, bound=100.0))
    e = torch.zeros_like(policy.model.head.weight)
    for x, logits in episode(policy, [1.0, 0.0, 1.0], asked=5.0):
        y = logits.softmax(-1)
        e = 0.5 * e + torch.outer(torch.eye(2)[logits.argmax()] - y if post == "error" else y, x)
    assert policy.adapted == 0.0  # the episode is not known to be over yet
    policy.reset(5.0)
    torch.testing.assert_close(policy.model.head.plastic, 0.5 * (2.0 - 5.0) / 10 * e)
    assert policy.adapted > 0


def test_a_rate_that_is_no_number_is_refused_not_taken_for_an_eta_of_0():
    with pytest.raises(ConfigError, match=r"plasticity\.eta: expected at least 0, found nan"):
        make_policy().adapt(PlasticityConfig(eta=math.nan))


def test_continuous_actions_learn_from_the_output_and_have_no_error():
    low, high = np.array([-2.0], np.float32), np.array([2.0], np.float32)
    policy = make_policy(action_space=gym.spaces.Box(low, high))
    with pytest.raises(ConfigError, match="expected output for a policy of continuous actions"):
        policy.adapt(dataclasses.replace(ON, post="error"))
    assert not policy.model.head._forward_pre_hooks
    policy.adapt(dataclasses.replace(ON, bound=100.0))
    (x, y), *_ = episode(policy, [1.0])
    policy.reset()
    torch.testing.assert_close(policy.model.head.plastic, 0.5 * (1.0 - 5.0) / 10 * torch.outer(y / 2, x))


def test_an_episode_that_returns_what_it_was_asked_for_teaches_nothing():
    policy = make_policy()
    policy.adapt(ON)
    for rewards in ([2.0, 3.0], []):
        episode(policy, rewards)
    policy.reset(5.0)
    assert policy.adapted == 0.0


def test_rewards_that_are_delayed_count_all_the_same():
    found = []
    for delayed in (False, True):
        policy = make_policy(delayed=delayed)
        policy.adapt(ON)
        episode(policy, [0.5])
        policy.reset()
        found.append(policy.model.head.plastic)
    assert torch.equal(*found)
    assert found[0].any()


def test_what_is_learned_stays_within_its_bound_and_changes_what_the_policy_says():
    policy = make_policy()
    before = episode(policy, [0.0] * 3)
    policy.adapt(dataclasses.replace(ON, eta=1e6, bound=0.25))
    for _ in range(3):
        episode(policy, [-100.0] * 3)
        assert policy.adapted <= 0.2501
    assert policy.adapted == pytest.approx(0.25)
    after = episode(policy, [0.0] * 3)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(before[:1], after[:1], strict=True))  # what the head reads
    assert not torch.equal(before[0][1], after[0][1])  # what it says


@pytest.mark.parametrize("back", [None, PlasticityConfig(), ON], ids=["none", "eta 0", "anew"])
def test_adapt_begins_at_the_weights_as_they_were_trained(back):
    policy = make_policy()
    stored, before = weights_of(policy), episode(policy, [0.0] * 3)
    policy.adapt(ON)
    for _ in range(3):
        episode(policy, [0.0] * 3)
    assert all(torch.equal(value, stored[name]) for name, value in policy.model.state_dict().items())
    assert policy.model.head.plastic.any()
    policy.adapt(back)
    assert policy.adapted == 0.0
    after = episode(policy, [0.0] * 3)
    assert all(torch.equal(a, b) for x, y in zip(before, after, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("kind", ["snn_dt", "snn_dt_stream"])
def test_a_batch_learns_from_each_row_when_it_is_over_and_from_no_other(kind):
    policy = make_policy(kind=kind)
    policy.adapt(dataclasses.replace(ON, bound=100.0))
    observations = np.array([[0.0, 0.1], [0.2, 0.3], [0.4, 0.5]], np.float32)
    policy.reset(5.0, batch_size=3)
    policy.act(observations)
    policy.observe([1.0, 2.0, 3.0])
    e = policy._plasticity.trace.e.clone()
    for row, observation in enumerate(observations):  # each row's trace is the one it has when it runs alone
        alone = make_policy(kind=kind)
        alone.adapt(ON)
        alone.reset(5.0)
        alone.act(observation)
        torch.testing.assert_close(alone._plasticity.trace.e[0], e[row], rtol=1e-4, atol=1e-6)
    policy.restart(np.array([1]), 4.0)
    expected = 0.5 * -0.3 * e[1]
    torch.testing.assert_close(policy.model.head.plastic, expected)
    policy.keep(np.array([1, 2]))
    expected = expected + 0.5 * -0.4 * e[0]
    torch.testing.assert_close(policy.model.head.plastic, expected)
    assert torch.equal(policy._plasticity.trace.e, torch.stack([torch.zeros_like(e[1]), e[2]]))
    policy.observe([4.0, 2.0])  # both are now where they were asked to be
    policy.keep(np.array([], dtype=np.int64))
    torch.testing.assert_close(policy.model.head.plastic, expected)


def test_an_evaluation_learns_target_by_target_and_leaves_the_policy_as_it_was():
    policy = countdown_policy(kind="snn_dt")
    stored, options = weights_of(policy), {"episodes": 6, "seed": 0, "num_envs": 2}
    plain = evaluate(policy, [9.0, 1.0], **options)
    first, second = evaluate(policy, [9.0, 1.0], plasticity=ON, **options)
    (again,) = evaluate(policy, [1.0], plasticity=ON, **options)
    assert first["plasticity"] == {**dataclasses.asdict(ON), "change": first["plasticity"]["change"]}
    assert first["plasticity"]["change"] > 0
    assert second["plasticity"] == again["plasticity"]
    assert second["returns"] == again["returns"]
    assert policy.model.head.plastic is None
    assert all(torch.equal(value, stored[name]) for name, value in policy.model.state_dict().items())
    for row in plain:
        assert "plasticity" not in row
    assert [r["returns"] for r in evaluate(policy, [9.0, 1.0], **options)] == [r["returns"] for r in plain]


def test_the_eligibilities_of_a_policy_that_learns_are_counted():
    policy = make_policy(kind="snn_dt")
    costs = []
    for rule in (None, ON):
        policy.adapt(rule)
        policy.reset(5.0)
        with DecisionMeter(policy.model) as meter:
            policy.act(np.zeros(2, np.float32))
            meter.count(policy.context.window()[-1])
        costs.append(meter.by_module["head"].macs)
    inputs, outputs = policy.model.head.in_features, policy.model.head.out_features
    assert costs[0] == inputs * outputs
    assert costs[1] > 3 * inputs * outputs  # and a softmax


def test_the_command_learns_and_does_not_touch_the_checkpoint(tmp_path, capsys):
    files = {path.name: path.read_bytes() for path in CARTPOLE.iterdir()}
    command = ["evaluate", "--checkpoint", str(CARTPOLE), "--episodes", "2", "--target-return", "29", "--threads", "1"]
    json_file = tmp_path / "rows.json"
    assert main([*command, "--json", str(json_file), "--plasticity.eta", "0.01"]) == 0
    assert "the head changed by" in capsys.readouterr().out
    (row,) = json.loads(json_file.read_text())
    assert row["plasticity"]["eta"] == 0.01
    assert {path.name: path.read_bytes() for path in CARTPOLE.iterdir()} == files
    assert main([*command, "--plasticity.decay", "1"]) == 2
    error = capsys.readouterr().err
    assert "plasticity.decay: expected in [0, 1), found 1.0; change it" in error
    assert "with --plasticity.decay" in error


def test_a_policy_that_is_moved_learns_on_from_the_weights_as_they_were_trained():
    policy = from_pretrained(CARTPOLE)
    policy.adapt(ON)
    policy.to("cpu")
    policy.reset(29.0)
    policy.act(np.zeros(4, np.float32))
    policy.observe(1.0)
    policy.reset(29.0)
    assert policy.adapted > 0
