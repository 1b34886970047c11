"""Everything a run needs to go on bit for bit, besides the weights: optimizer, generators, counters, running means."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snn_dt import io
from snn_dt.errors import CheckpointError
from snn_dt.learning.plasticity import TrainingPlasticity
from snn_dt.learning.slopes import SlopeSchedule


@dataclass
class TrainingState:
    """Where a run stands."""

    optimizer: torch.optim.Optimizer
    step: int = 0
    """Updates done."""
    evaluated_at: int = -1
    """Update after which the last evaluation was finished."""
    best_score: float = -math.inf
    """Score of the checkpoint `best`."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """Sums of metrics since the last record."""
    counted: int = 0
    """Step of the last record."""
    carried: Any = None
    """What a model with state has left behind after the last update, where `train.stateful` is true."""
    slopes: SlopeSchedule | None = None
    """Schedule of the surrogate's slope; None leaves the model's."""
    plasticity: TrainingPlasticity | None = None
    """Three-factor plasticity of the action head; None: off."""

    def add(self, metrics: dict[str, Tensor]) -> None:
        """Add to the running sums without waiting for the device."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0) + value.double()

    def take_means(self) -> dict[str, float]:
        """Return the means since the last call and start again."""
        means = {name: float(value) / (self.step - self.counted) for name, value in self.sums.items()}
        self.sums, self.counted = {}, self.step
        return means

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
        """Take over what `to_dict` returned, generators included."""
        self.optimizer.load_state_dict(values["optimizer"])
        for name in ("step", "evaluated_at", "best_score", "sums", "counted"):
            setattr(self, name, values[name])
        self.carried = values.get("carried") or None
        if self.slopes is not None and values.get("slopes"):  # older checkpoints have none
            self.slopes.load_state_dict(values["slopes"])
        if self.plasticity is not None:
            self.plasticity.load_state_dict(values["plasticity"])
        torch.set_rng_state(values["cpu_generator"])
        if values["cuda_generators"] and torch.cuda.device_count() == len(values["cuda_generators"]):
            torch.cuda.set_rng_state_all(values["cuda_generators"])


def load_training_state(checkpoint: Path, device: torch.device) -> dict[str, Any]:
    """Read `training_state.pt` of a checkpoint folder.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = checkpoint / "training_state.pt"
    try:
        values: dict[str, Any] = torch.load(io.require_file(path), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged zip, a truncated tensor or a foreign pickle each raise their own kind
        raise CheckpointError(
            f"expected the state of a run in {path}, found: {' '.join(str(error).split())}; resume needs the run "
            "folder that `snn-dt train` wrote, a checkpoint copied for use cannot be resumed"
        ) from error
    for name in ("sums", "carried"):
        values[name] = {key: tensor.to(device) for key, tensor in values.get(name, {}).items()}
    return values
