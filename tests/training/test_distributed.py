"""Several processes train as one would: same losses, same weights, one writer, one decision to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from snn_dt.cli.main import main
from snn_dt.config import load_config
from snn_dt.errors import ConfigError
from snn_dt.run import Run
from snn_dt.training.distributed import Workers
from tests.conftest import ROOT, read_jsonl
from tests.patience import HANG

TRAIN = ["-m", "snn_dt.cli.main", "train"]


@pytest.fixture
def config_file(tmp_path):
    def write(kind: str = "snn_dt", **train) -> Path:
        path = tmp_path / "config.yaml"
        fields = {
            "model": {"kind": kind, "d_model": 16, "n_layers": 1, "context_length": 5},
            "data": {"dataset": str(ROOT / "datasets/sb3/cartpole/mixed-v0"), "validation_fraction": 0.1},
            "train": {"batch_size": 13, "log_every": 1, "device": "cpu", "warmup_steps": 5, "threads": 1, **train},
            "eval": {"episodes": 2, "target_return": [200]},
            "track": {"wandb": "disabled"},
        }
        path.write_text(yaml.safe_dump(fields))
        return path

    return write


def torchrun(*arguments: str, processes: int = 2) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={processes}",
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def losses(run_dir: Path) -> np.ndarray:
    rows = read_jsonl(run_dir / "metrics.jsonl")
    return np.array([[row["step"], row["loss"], row["grad_norm"]] for row in rows if "loss" in row])


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "checkpoints" / "last" / "model.safetensors")


@pytest.mark.slow
def test_two_processes_have_the_losses_of_one_at_the_same_global_batch(config_file, tmp_path):
    # 13 windows, some with pads, cannot be shared out evenly: only weighting by real steps gives the same mean.
    # Dense: over many updates a spike that rounding flips drives two spiking runs apart, exact as both are.
    path = config_file("dense", steps=40, eval_every=20, accumulate=1, learning_rate=1e-3)
    two = torchrun(*TRAIN, "--config", str(path), "--run_dir", str(tmp_path / "two"))
    (tmp_path / "one").mkdir()
    Run(load_config(path), tmp_path / "one").train()
    out, _ = two.communicate(timeout=HANG)
    assert two.returncode == 0, out
    one, shared = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(shared) == 40, "every update is recorded once"
    np.testing.assert_allclose(shared, one, atol=1e-6, rtol=0)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, atol=1e-4, rtol=1e-4)
    evaluations = [row["step"] for row in read_jsonl(tmp_path / "two" / "metrics.jsonl") if "evaluation" in row]
    assert evaluations == [20, 40]


@pytest.mark.slow
def test_spiking_processes_follow_a_slope_that_one_alone_knows_of(config_file, tmp_path):
    schedule = {"kind": "adaptive", "score": "return", "last": 100}  # after evaluations, which one process makes
    path = config_file(steps=12, eval_every=6, slope_schedule=schedule)
    two = torchrun(*TRAIN, "--config", str(path), "--run_dir", str(tmp_path / "two"))
    out, _ = two.communicate(timeout=HANG)
    assert two.returncode == 0, out
    rows = [row for row in read_jsonl(tmp_path / "two" / "metrics.jsonl") if "loss" in row]
    assert len({row["surrogate_slope"] for row in rows}) == 2
    (tmp_path / "one").mkdir()
    Run(load_config(path), tmp_path / "one").train()
    first = [losses(tmp_path / name)[0, 1] for name in ("one", "two")]
    assert first[0] == pytest.approx(first[1], rel=1e-2)


@pytest.mark.slow
def test_a_run_of_two_processes_stopped_by_a_signal_goes_on_in_one(config_file, tmp_path, capsys):
    # Dense: over hundreds of updates a spike that rounding flips drives two spiking runs apart, exact as both are.
    path, run_dir = config_file("dense", steps=400), tmp_path / "run"
    two = torchrun(*TRAIN, "--config", str(path), "--run_dir", str(run_dir))
    while not (run_dir / "metrics.jsonl").exists():
        time.sleep(0.1)
        assert two.poll() is None, two.stdout.read()
    two.send_signal(signal.SIGTERM)
    out, _ = two.communicate(timeout=HANG)
    assert "stopped after update" in out, out
    stopped = torch.load(run_dir / "checkpoints/last/training_state.pt", weights_only=True)["step"]
    assert 1 <= stopped < 400
    assert main(["train", "--resume", str(run_dir)]) == 0
    (tmp_path / "whole").mkdir()
    Run(load_config(path), tmp_path / "whole").train()
    np.testing.assert_allclose(losses(run_dir)[:, 1], losses(tmp_path / "whole")[:, 1], atol=1e-5)


@pytest.mark.slow
def test_an_error_in_one_process_ends_all(config_file, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(f"""
import os, sys
from pathlib import Path
from snn_dt.run import Run
from snn_dt.config import load_config
Path({str(tmp_path / "run")!r}).mkdir(exist_ok=True)
run = Run(load_config({str(config_file(steps=10_000))!r}), Path({str(tmp_path / "run")!r}))
draw = run.batches
def failing(step):
    if run.workers.rank == 1 and step == 5:
        raise OSError("the disk of node 1 is gone")
    return draw(step)
run.batches = failing
run.train()
""")
    broken = torchrun(str(script))
    out, _ = broken.communicate(timeout=HANG)  # the others would wait for a day, see EVALUATION_TIMEOUT
    assert broken.returncode != 0
    assert "the disk of node 1 is gone" in out
    assert len(losses(tmp_path / "run")) == 5


def test_alone_everything_is_returned_as_it_is(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    workers = Workers("cpu")
    value = torch.tensor([1.0, 2.0])
    assert (workers.rank, workers.world_size, workers.first) == (0, 1, True)
    assert workers.sum(value) is value
    assert workers.agree(15) == 15
    assert workers.agree(None) is None
    assert workers.from_first(2.5) == 2.5


def test_a_batch_smaller_than_the_processes_is_refused(monkeypatch):
    workers = Workers("cpu")
    workers.world_size = 8
    workers.check(batch_size=16, accumulate=2)
    with pytest.raises(ConfigError, match=r"at least a window for each of 8 processes x 2 micro-batches, found 15"):
        workers.check(batch_size=15, accumulate=2)
