"""What the tests of sweeps share: a tiny grid, and what a trial of it must come to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from snn_dt.run import Run
from snn_dt.training.sweep.grid import read_sweep
from tests.conftest import ROOT
from tests.patience import HANG

FIELDS = {
    "model": {"kind": "dense", "d_model": 16, "n_layers": 1, "context_length": 5},
    "data": {"dataset": str(ROOT / "datasets/sb3/cartpole/mixed-v0")},
    "train": {"batch_size": 8, "save_every": 20, "log_every": 100, "threads": 1, "device": "cpu"},
    "eval": {"episodes": 0},
    "track": {"wandb": "disabled"},
}


@pytest.fixture
def sweep_file(tmp_path) -> Callable[..., Path]:
    """Write a sweep over a tiny config and return its path."""

    def write(steps: int = 60, **sweep) -> Path:
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(FIELDS | {"train": {**FIELDS["train"], "steps": steps}}))
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump({"configs": ["tiny.yaml"], **sweep}))
        return path

    return write


def start_sweep(path: Path, root: Path, *flags: str) -> subprocess.Popen[str]:
    """`snn-dt sweep` in a process of its own."""
    command = [sys.executable, "-m", "snn_dt.cli.main", "sweep", "--config", str(path), "--run_root", str(root), *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def uninterrupted_weights(path: Path, name: str, folder: Path) -> bytes:
    """Train the trial `name` of a sweep file in one go, here; returns its weights' file."""
    [trial] = [trial for trial in read_sweep(path)[1] if trial.name == name]
    folder.mkdir()
    Run(trial.config, folder).train()
    return weights(folder)


def weights(run_dir: Path) -> bytes:
    """The last checkpoint's weights, bit for bit."""
    return (run_dir / "checkpoints" / "last" / "model.safetensors").read_bytes()


def wait_for(condition: Callable[[], object], seconds: float = HANG) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
