"""Training state: optimizer, random generators, counters and running means.

A run resumes bit for bit from this state and the weights.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt import io
from snn_dt.config import TrainConfig
from snn_dt.errors import CheckpointError, TrainingError
from snn_dt.learning.slopes import SlopeSchedule
from snn_dt.snn.backends import wide
from snn_dt.training.distributed import Workers


@dataclass
class TrainingState:
    """The state of a run between two updates."""

    optimizer: torch.optim.Optimizer
    step: int = 0
    """Number of updates done."""
    evaluated_at: int = -1
    """Update after which the last evaluation took place."""
    best_score: float = -math.inf
    """Score of the checkpoint `best`."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums of metrics since the last log line."""
    counted: int = 0
    """Step of the last log line."""
    carried: Any = None
    """State of the model after the last update, with `train.stateful`."""
    slopes: SlopeSchedule | None = None
    """Schedule of the surrogate's slope; None keeps the model's slope."""
    plasticity: Any = None
    """`experimental.local_learning.TrainingPlasticity` of the action head; None switches it off."""
    workers: Workers | None = None
    """Processes that share the updates; None is this process alone. Not part of a checkpoint."""

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add to the running sums without waiting for the device."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0) + value.to(wide(value.device))

    def take_means(self) -> dict[str, float]:
        """Return the means since the last call and reset the sums."""
        means = {name: float(value) / (self.step - self.counted) for name, value in self.sums.items()}
        self.sums, self.counted = {}, self.step
        return means

    def check_finite(self, grad_clip: float) -> None:
        """Check the losses and gradients since the last log line, so no damaged model is saved.

        Raises:
            TrainingError: a loss or gradient is not finite.
        """
        for name in ("loss", "grad_norm"):
            # A sum is finite only if all its terms are, so one transfer checks all updates.
            total = float(self.sums.get(name, 0.0))
            if not math.isfinite(total):
                clip = "lower --train.grad_clip" if grad_clip else "set --train.grad_clip, which is 0, to 1"
                raise TrainingError(
                    f"expected a finite {name}, found {total} by update {self.step}; lower --train.learning_rate or "
                    f"{clip} (a checkpoint, if one was saved, is from before)"
                )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values and tensors, with torch's generators, for `torch.save`."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "evaluated_at": self.evaluated_at,
            "best_score": self.best_score,
            "sums": self.sums,
            "counted": self.counted,
            "carried": {} if self.carried is None else self.carried,
            "slopes": {} if self.slopes is None else self.slopes.state_dict(),
            "plasticity": {} if self.plasticity is None else self.plasticity.state_dict(),
            "cpu_generator": torch.get_rng_state(),
            "cuda_generators": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Restore the values of `to_dict`, with torch's generators."""
        self.optimizer.load_state_dict(values["optimizer"])
        for name in ("step", "evaluated_at", "best_score", "sums", "counted"):
            setattr(self, name, values[name])
        self.carried = values.get("carried") or None
        if self.slopes is not None and values.get("slopes"):  # older checkpoints have none
            self.slopes.load_state_dict(values["slopes"])
        if self.plasticity is not None:
            self.plasticity.load_state_dict(values["plasticity"])
        torch.set_rng_state(values["cpu_generator"])
        # One generator per GPU: another number of GPUs has no matching states.
        if values["cuda_generators"] and torch.cuda.device_count() == len(values["cuda_generators"]):
            torch.cuda.set_rng_state_all(values["cuda_generators"])


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on matrices, but not on biases, norms and phases."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    # Biases, norms and phases have one axis.
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)  # one kernel takes a fifth of the time


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of update `step` (from 0): a linear warm-up, then a constant or a cosine to 0."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.schedule == "constant":
        return config.learning_rate * warm
    rest = max(config.steps - config.warmup_steps, 1)
    progress = min(max(step - config.warmup_steps, 0) / rest, 1.0)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))


@contextlib.contextmanager
def restoring(source: Path, what: str = "the state") -> Iterator[None]:
    """Turn a failure to restore a run from `source` into a `CheckpointError`."""
    try:
        yield
    except Exception as error:  # damaged files and files of other versions raise many types
        reason = " ".join(str(error).split())
        raise CheckpointError(f"expected {what} of this run in {source}, found: {reason}; begin a new run") from error


def load_training_state(checkpoint: Path, device: torch.device) -> dict[str, Any]:
    """Read `training_state.pt` of a checkpoint folder.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    path = checkpoint / "training_state.pt"
    try:
        values: dict[str, Any] = torch.load(io.require_file(path), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives, tensors and pickles raise different types
        raise CheckpointError(
            f"expected the state of a run in {path}, found: {' '.join(str(error).split())}; resume needs the run "
            "folder that `snn-dt train` wrote, a checkpoint copied for use cannot be resumed"
        ) from error
    for name in ("sums", "carried"):
        values[name] = {key: tensor.to(device) for key, tensor in values.get(name, {}).items()}
    return values
