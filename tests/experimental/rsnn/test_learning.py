"""Every rule learns: a small task of three classes, from chance to nearly no errors."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.experimental.rsnn.config import RSNNConfig, load_rsnn_config
from snn_dt.experimental.rsnn.run import RSNNRun
from snn_dt.experimental.rsnn.trainer import evaluate
from snn_dt.training.signals import StopSignal
from tests.conftest import ROOT


class Silent:
    def log(self, step, metrics):
        pass


def config_of(name: str, **learn) -> RSNNConfig:
    config = load_rsnn_config(ROOT / f"configs/rsnn/{name}.yaml")
    return dataclasses.replace(
        config,
        task=dataclasses.replace(config.task, classes=3, steps=50, inputs=30),
        network=dataclasses.replace(config.network, neurons=40),
        learn=dataclasses.replace(config.learn, **{"eval_every": 1000, "threads": 1, **learn}),
    )


@pytest.mark.parametrize(
    ("name", "learn", "error"),
    [
        ("classes", {"rule": "bptt", "steps": 30, "learning_rate": 1e-2}, 0.05),
        ("classes", {"rule": "eprop", "steps": 30, "learning_rate": 1e-2}, 0.05),
        ("classes", {"rule": "eprop", "steps": 30, "learning_rate": 1e-2, "loss": "margin", "margin": 0.2}, 0.1),
        ("hebbian", {"steps": 80}, 0.3),
    ],
    ids=["bptt", "eprop", "eprop-margin", "hebbian"],
)
def test_a_rule_learns(name, learn, error, tmp_path):
    run = RSNNRun(config_of(name, **learn), tmp_path)
    before = evaluate(run.parts, run.config.learn)["error"]
    assert run.train(Silent(), StopSignal())
    assert before > 0.4
    assert evaluate(run.parts, run.config.learn)["error"] < error


def test_a_reward_that_falls_with_the_margin_teaches_nothing(tmp_path):
    config = config_of("hebbian", steps=80)
    config = dataclasses.replace(config, hebbian=dataclasses.replace(config.hebbian, steepness=-100.0))
    run = RSNNRun(config, tmp_path)
    assert run.train(Silent(), StopSignal())
    assert evaluate(run.parts, config.learn)["error"] > 0.5


@pytest.mark.parametrize(
    ("optimizer", "kind", "momentum"),
    [("sgd", torch.optim.SGD, 0.0), ("momentum", torch.optim.SGD, 0.9), ("adam", torch.optim.Adam, None)],
)
def test_optimizers_are_torchs_and_decay_is_not_theirs(optimizer, kind, momentum, tmp_path):
    run = RSNNRun(config_of("classes", optimizer=optimizer, weight_decay=3.0, steps=1, learning_rate=1e-3), tmp_path)
    assert type(run.state.optimizer) is kind
    assert run.state.optimizer.param_groups[0].get("momentum") == momentum
    assert run.state.optimizer.param_groups[0]["weight_decay"] == 0
    weight = run.parts.network.input.weight
    before = weight.detach().clone()
    plain = RSNNRun(config_of("classes", optimizer=optimizer, steps=1, learning_rate=1e-3), tmp_path / "plain")
    (tmp_path / "plain").mkdir()
    for each in (run, plain):
        each.train(Silent(), StopSignal())
    difference = plain.parts.network.input.weight - weight
    torch.testing.assert_close(difference.detach(), 0.003 * before, rtol=1e-3, atol=1e-6)
