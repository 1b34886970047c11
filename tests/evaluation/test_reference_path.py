"""How decisions were made is in every result; on the reference path a loop of one's own makes the same, bit for bit."""

from __future__ import annotations

import csv
import importlib.util
import json

import gymnasium as gym
import pytest

from snn_dt.checkpoint import from_pretrained
from snn_dt.cli.main import main
from snn_dt.config import PlasticityConfig
from snn_dt.evaluation.rollout import evaluate
from snn_dt.experimental.results.runs_csv import to_csv
from snn_dt.snn.backends import backend_for
from tests.conftest import ROOT, read_jsonl
from tests.policies import countdown_policy
from tests.runs import shared_cache as shared_cache
from tests.runs import train
from tests.test_reproduce import record

PRETRAINED = ROOT / "results" / "pretrained"
TARGETS = {"Pendulum-v1": -150.0, "CartPole-v1": 60.0, "Hopper-v5": 3600.0}
no_mujoco = pytest.mark.skipif(importlib.util.find_spec("mujoco") is None, reason="the package mujoco is not installed")
SHIPPED = [
    *(("cartpole", "CartPole-v1", model) for model in ("dense", "snn_dt", "snn_dt_stream")),
    *(("pendulum", "Pendulum-v1", model) for model in ("snn_dt", "snn_dt_stream")),
    *(pytest.param("hopper", "Hopper-v5", model, marks=no_mujoco) for model in ("snn_dt", "snn_dt_stream")),
]


def own_loop(policy, env, target, episodes, seed):
    """What a user writes: the returns of some episodes."""
    returns = []
    for i in range(episodes):
        observation, _ = env.reset(seed=seed + i)
        policy.reset(target)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            policy.observe(reward)
            total += float(reward)
            over = terminated or truncated
        returns.append(total)
    return returns


@pytest.mark.parametrize(("name", "env_id", "model"), SHIPPED)
def test_on_the_reference_path_every_return_is_that_of_a_loop_of_ones_own_bit_for_bit(name, env_id, model):
    """With counting on every step and on every fifth, after other episodes, and over two targets."""
    if not (PRETRAINED / f"{name}-{model}").is_dir():
        pytest.skip("this checkpoint is not in the repository")
    policy = from_pretrained(PRETRAINED / f"{name}-{model}")
    targets, env = [TARGETS[env_id], 0.5 * TARGETS[env_id]], gym.make(env_id, max_episode_steps=60)
    expected = [own_loop(from_pretrained(PRETRAINED / f"{name}-{model}"), env, t, 2, 77) for t in targets]
    policy.spec = type(policy.spec)(
        **{**vars(policy.spec), "env_spec": json.dumps({"id": env_id, "max_episode_steps": 60})}
    )
    for every in (1, 5):
        rows = evaluate(policy, targets, episodes=2, seed=77, reference=True, meter_every=every)
        assert [row["returns"] for row in rows] == expected
        assert {(row["num_envs"], row["meter_every"], row["decided_by"]) for row in rows} == {(1, every, "act")}
        assert all(row["macs_per_decision"] > 0 for row in rows)
        assert all(row["spikes_per_decision"] > 0 for row in rows) == (model != "dense")


def test_the_command_offers_the_reference_path_and_its_returns_are_those_of_a_loop_of_ones_own(tmp_path, capsys):
    checkpoint, file = PRETRAINED / "pendulum-snn_dt", tmp_path / "rows.json"
    words = ["--episodes", "2", "--seed", "5", "--target-return", "-150", "--reference", "true", "--json", str(file)]
    assert main(["evaluate", "--checkpoint", str(checkpoint), *words]) == 0
    (row,) = json.loads(file.read_text())
    assert row["returns"] == own_loop(from_pretrained(checkpoint), gym.make("Pendulum-v1"), -150.0, 2, 5)
    assert (row["num_envs"], row["meter_every"], row["decided_by"], row["threads"]) == (1, 1, "act", 1)
    capsys.readouterr()


def test_the_reference_path_counts_what_the_modules_do_and_times_decisions_alone():
    policy = countdown_policy(kind="snn_dt")
    plain, reference = (evaluate(policy, [4.0], episodes=4, num_envs=1, reference=r)[0] for r in (False, True))
    assert plain["decided_by"] == "modules"
    for name in ("macs_per_decision", "acs_per_decision", "spikes_per_decision", "context_steps"):
        assert reference[name] == pytest.approx(plain[name], rel=1e-2), name


def test_a_policy_that_learns_while_it_acts_learns_the_same_on_the_reference_path():
    rule = PlasticityConfig(eta=0.5, decay=0.5)
    policy = countdown_policy(kind="snn_dt")
    env = gym.make(policy.spec.env_id)
    (row,) = evaluate(policy, [9.0], episodes=4, seed=3, reference=True, plasticity=rule)
    policy.adapt(rule)
    assert row["returns"] == own_loop(policy, env, 9.0, 4, 3)
    policy.reset(9.0)  # the last episode is known to be over
    assert row["plasticity"]["change"] == pytest.approx(policy.adapted, rel=1e-6)
    policy.adapt(None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (32, 1, "modules")),
        ({"num_envs": 3}, (3, 1, "modules")),
        ({"num_envs": 3, "meter_every": 4}, (3, 4, "both")),
        ({"num_envs": 3, "meter_every": 4, "reference": True}, (1, 4, "act")),
    ],
)
@pytest.mark.parametrize("scores", [None, {"min": 0.0, "max": 9.0, "source": "here"}], ids=["no score", "score"])
def test_every_row_says_how_it_was_decided(options, expected, scores, monkeypatch):
    policy, begun = countdown_policy(reference=scores), []
    reset = policy.reset
    monkeypatch.setattr(
        policy, "reset", lambda target, batch_size=None: begun.append(batch_size) or reset(target, batch_size)
    )
    (row,) = evaluate(policy, [2.0], episodes=4, **options)
    assert begun == ([1] * 4 if expected[2] == "act" else [min(4, expected[0])])
    assert (row["num_envs"], row["meter_every"], row["decided_by"]) == expected
    assert row["kernel"] == backend_for("cpu")
    assert row["threads"] >= 1


def test_the_evaluations_of_a_run_say_how_they_were_decided(tmp_path):
    assert train(tmp_path / "run", eval__num_envs=2) == 0
    rows = [row["evaluation"][0] for row in read_jsonl(tmp_path / "run" / "metrics.jsonl") if "evaluation" in row]
    assert rows
    assert {(row["num_envs"], row["meter_every"], row["decided_by"]) for row in rows} == {(2, 1, "modules")}


def test_the_table_of_runs_says_so_too_also_of_records_from_before():
    new, old = record("full", 0, 2.0), record("full", 1, 2.0)
    new["evaluation"][0] |= {"num_envs": 7, "meter_every": 3, "decided_by": "both"}
    old["config"]["eval"] = {"num_envs": 32}
    rows = list(csv.DictReader(to_csv([new, old]).splitlines()))
    assert [(row["num_envs"], row["meter_every"], row["decided_by"]) for row in rows] == [
        ("7", "3", "both"),
        ("32", "1", "modules"),
    ]
