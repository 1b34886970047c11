"""`snn-dt rsnn`: a run that is stopped and resumed is, bit for bit, the run that was not."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from snn_dt.cli.main import main
from snn_dt.errors import CheckpointError
from snn_dt.experimental.rsnn.run import load_network
from snn_dt.experimental.rsnn.tasks import Classes, Evidence, Pattern
from tests.runs import bits, edit, lines_of, set_number

KINDS = {
    "pattern": {"task.steps": 60, "penalty.target": 300, "network.feedback": "adaptive", "learn.weight_decay": 1},
    "evidence": {
        "task.kind": "evidence", "task.inputs": 8, "task.steps": 150, "task.cues": 1, "network.adaptive": 4,
        "learn.optimizer": "adam", "learn.rule": "bptt", "topology.every": 2, "topology.prune_below": 0.1,
        "topology.patience": 2, "topology.grow": 3, "topology.start": 0.7,
    },
    "classes": {
        "task.kind": "classes", "task.steps": 20, "learn.rule": "hebbian", "learn.optimizer": "momentum",
        "network.readout": "spiking",
    },
}  # fmt: skip
TASKS = {"pattern": Pattern, "evidence": Evidence, "classes": Classes}
SAVED_AT = 6


def flags(run: Path, kind: str) -> list[str]:
    values = {
        "task.inputs": 10, "network.neurons": 8, "learn.steps": 14, "learn.batch_size": 3, "learn.log_every": 4,
        "learn.eval_every": 5, "learn.save_every": SAVED_AT, "learn.eval_samples": 4, "learn.threads": 1,
        "learn.learning_rate": 1e-2, "track.wandb": "disabled",
    } | KINDS[kind]  # fmt: skip
    return ["rsnn", f"--run-dir={run}", *(f"--{name}={value}" for name, value in values.items())]


def left_behind(run: Path):
    state = torch.load(run / "checkpoints" / "last" / "training_state.pt", weights_only=True)
    return bits(state), lines_of(run)


def at_update(monkeypatch, kind: str, step: int, happens) -> None:
    task, draw = TASKS[kind], TASKS[kind].draw

    def drawn(self, seed, now, samples):
        if now == step:
            monkeypatch.setattr(task, "draw", draw)
            happens()
        return draw(self, seed, now, samples)

    monkeypatch.setattr(task, "draw", drawn)


class KilledError(BaseException):
    """The process is gone."""


def killed() -> None:
    raise KilledError


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_stopped_or_killed_and_resumed_is_the_run_that_was_not(kind, tmp_path, monkeypatch, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(flags(whole, kind)) == 0
    at_update(monkeypatch, kind, 3, lambda: signal.raise_signal(signal.SIGTERM))
    assert main(flags(broken, kind)) == 128 + signal.SIGTERM
    assert f"go on with: snn-dt rsnn --resume {broken}" in capsys.readouterr().out
    at_update(monkeypatch, kind, 9, killed)
    with pytest.raises(KilledError):
        main(["rsnn", "--resume", str(broken)])
    assert main(["rsnn", "--resume", str(broken)]) == 0
    assert left_behind(broken) == left_behind(whole)
    assert [line["step"] for line in lines_of(whole)] == [4, 5, 8, 10, 12, 14, 14]


def test_a_run_says_what_it_measured_and_its_network_can_be_loaded(tmp_path, capsys):
    run = tmp_path / "run"
    assert main(flags(run, "pattern")) == 0
    line = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"test_error", "test_loss", "test_firing_rate", "test_operations"} <= line.keys()
    assert "accumulates per sample" in capsys.readouterr().out
    network, task = load_network(run), pattern_of(run)
    with torch.no_grad():
        sample = task.draw(0, 0, 1)
        y, spikes = network(sample.x)
    assert float(task.scores(y, sample.target)["error"]) == pytest.approx(line["test_error"], rel=1e-6)
    assert float(network.synaptic_operations(sample.x, spikes)) == pytest.approx(line["test_operations"])
    name = set_number(run / "checkpoints" / "last" / "model.safetensors", float("nan"))
    with pytest.raises(CheckpointError, match=f"expected the weights of {run}.*NaN or infinite numbers in {name}"):
        load_network(run)


def pattern_of(run: Path) -> Pattern:
    from snn_dt.experimental.rsnn.config import load_rsnn_config

    config = load_rsnn_config(run / "config.yaml")
    return Pattern(config.task, config.learn)


def test_a_run_that_is_good_enough_stops(tmp_path, capsys):
    assert main([*flags(tmp_path / "run", "classes"), "--learn.stop_error=1.1"]) == 0
    assert "5 updates" in capsys.readouterr().out
    assert main(["rsnn", "--resume", str(tmp_path / "run")]) == 0
    assert "5 updates" in capsys.readouterr().out


def test_a_run_whose_configuration_was_changed_is_not_resumed(tmp_path, capsys):
    run = tmp_path / "run"
    assert main([*flags(run, "classes"), "--learn.stop_error=1.1"]) == 0
    edit(run, "learn", seed=5)
    assert main(["rsnn", "--resume", str(run)]) == 2
    assert "there and 5 here; put it back" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--learn.rule=hebbian"], "learn.rule: expected bptt or eprop but for classes, found hebbian"),
        (["--network.readout=spiking"], "network.readout: expected spiking for classes, else leaky, found spiking"),
        (["--task.cues=4"], "task.cues: expected an odd number above 0, found 4"),
        (["--topology.allowed", "output>lif"], "topology.allowed: expected pairs of"),
        (["--learn.learning_rate=0"], "learn.learning_rate: expected above 0, found 0"),
        (["--network.feedback_scale=-1"], "network.feedback_scale: expected at least 0 or null, found -1"),
        (["--network.threshold_adaptation=-5"], "network.threshold_adaptation: expected at least 0 or null, found -5"),
        (["--penalty.rate_max=2"], "penalty.rate_max: expected in [0, 1], found 2"),
        (["--hebbian.homeostasis=-1"], "hebbian.homeostasis: expected at least 0, found -1"),
        (["--topology.grow_scale=-1"], "topology.grow_scale: expected at least 0, found -1"),
        (["--learn.threads=100000"], "learn.threads: expected in [0, 1024], found 100000"),
        (["--config", "nowhere.yaml"], "expected a config file at"),
    ],
)
def test_a_mistake_is_one_line(changes, message, tmp_path, capsys):
    assert main([*flags(tmp_path / "run", "pattern"), *changes]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_run_folder_is_not_written_over(tmp_path, capsys):
    assert main(flags(tmp_path / "run", "pattern")) == 0
    assert main(flags(tmp_path / "run", "pattern")) == 2
    assert "expected a new run folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pattern", "evidence", "classes", "hebbian"])
def test_every_config_in_the_repository_can_be_read(name):
    from snn_dt.experimental.rsnn.config import load_rsnn_config
    from tests.conftest import ROOT

    assert load_rsnn_config(ROOT / f"configs/rsnn/{name}.yaml").learn.steps > 1
