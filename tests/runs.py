"""Tiny training runs through the command line, in this process, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from snn_dt.cli.main import main
from snn_dt.snn.build import build_library
from snn_dt.training.loop import TrainingLoop
from tests.conftest import ROOT

CARTPOLE = str(ROOT / "datasets/sb3/cartpole/mixed-v0")
CLOCKS = ("steps_per_second", "decisions_per_second")


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """The dataset is read once for all runs, into a folder of these tests; the processes they start see it too.

    The compiled kernels come along, or each of those processes would build them.
    """
    before, folder = os.environ.get("SNN_DT_CACHE"), tmp_path_factory.mktemp("cache")
    with contextlib.suppress(OSError, subprocess.SubprocessError):  # no compiler
        shutil.copy2(build_library(), folder)
    os.environ["SNN_DT_CACHE"] = str(folder)
    yield
    os.environ.pop("SNN_DT_CACHE")
    if before is not None:
        os.environ["SNN_DT_CACHE"] = before


def flags(run_dir: Path, **changes: Any) -> list[str]:
    """The flags of a run of 14 updates, recorded every 4, saved every 5, evaluated every 6, with `changes`."""
    values = {
        "data.dataset": CARTPOLE,
        "data.validation_fraction": 0.1,
        "model.kind": "dense",
        "model.d_model": 16,
        "model.n_layers": 1,
        "model.context_length": 5,
        "train.steps": 14,
        "train.batch_size": 8,
        "train.warmup_steps": 4,
        "train.log_every": 4,
        "train.save_every": 5,
        "train.eval_every": 6,
        "train.threads": 1,
        "train.device": "cpu",
        "eval.episodes": 3,
        "eval.target_return": 20,
        "track.wandb": "disabled",
    } | {name.replace("__", "."): value for name, value in changes.items()}
    return ["--run-dir", str(run_dir), *(f"--{name}={value}" for name, value in values.items())]


def train(run_dir: Path, **changes: Any) -> int:
    """Make a run; returns the exit status."""
    return main(["train", *flags(run_dir, **changes)])


def resume(run_dir: Path) -> int:
    """Go on with a run; returns the exit status."""
    return main(["train", "--resume", str(run_dir)])


def edit(run_dir: Path, section: str, **values: Any) -> None:
    """Change a run's configuration by hand."""
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    config[section] |= values
    (run_dir / "config.yaml").write_text(yaml.safe_dump(config))


def set_number(path: Path, value: float, name: str = "") -> str:
    """Change the first number of a tensor of a safetensors file, the last tensor's by default; returns its name."""
    tensors = load_file(path)
    name = name or max(tensors)
    tensors[name].view(-1)[0] = value
    save_file(tensors, path)
    return name


def at_update(monkeypatch, step: int, happens) -> None:
    """Let something happen while update `step` (from 0) is made, once."""
    draw = TrainingLoop.draw

    def drawn(self):
        if self.state.step == step:
            monkeypatch.setattr(TrainingLoop, "draw", draw)
            happens()
        return draw(self)

    monkeypatch.setattr(TrainingLoop, "draw", drawn)


def stop_at_update(monkeypatch, step: int, signum: int = signal.SIGTERM) -> None:
    """Send this process a signal while update `step` is made."""
    at_update(monkeypatch, step, lambda: signal.raise_signal(signum))


def state_of(run_dir: Path) -> dict[str, Any]:
    """The training state beside the last checkpoint."""
    return torch.load(run_dir / "checkpoints" / "last" / "training_state.pt", weights_only=True)


def left_behind(run_dir: Path) -> dict[str, Any]:
    """Everything a run leaves that must not depend on whether it was interrupted; tensors as lists of bytes."""
    return {
        "weights": {n: bits(load_file(run_dir / "checkpoints" / n / "model.safetensors")) for n in ("last", "best")},
        "state": bits(state_of(run_dir)),
        "lines": lines_of(run_dir),
    }


def lines_of(run_dir: Path) -> list[dict[str, Any]]:
    """The metrics of a run without what a clock said."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for row in (line, *line.get("evaluation", ())):
            for name in CLOCKS:
                row.pop(name, None)
    return lines


def bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.contiguous().flatten().view(torch.uint8).tolist())
    if isinstance(value, dict):
        return {key: bits(item) for key, item in value.items()}
    return [bits(item) for item in value] if isinstance(value, list | tuple) else value
