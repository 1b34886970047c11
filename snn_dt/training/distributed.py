"""Data-parallel training: W processes from torchrun train one model on W slices of each batch.

Every process draws the same batch and keeps its slice. It divides its gradient by the valid steps of the whole batch.
The sum over the processes is therefore the gradient of a single process. The weights stay equal without an exchange.
The number of processes may change when a run is resumed. Only process 0 writes, logs and evaluates.

Gradients are sent as one flat message after the backward pass. DistributedDataParallel would overlap the two and wrap
the model. For 0.1 to 10 M parameters the overlap has no measurable gain (docs/scale.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from snn_dt.device import choose_device
from snn_dt.errors import ConfigError, SnnDtError, TrainingError

T = TypeVar("T")

EVALUATION_TIMEOUT = timedelta(days=1)
"""Time that the other processes wait for process 0 to evaluate. A dead process closes its connection at once."""


class Workers:
    """The processes of one training run. With a single process every method returns its argument.

    Attributes are `rank` in [0, `world_size`), `first` (whether this is rank 0), `device` and `local_size` (the number
    of processes on this machine).
    """

    def __init__(self, device: str) -> None:
        """Connect to the other processes if torchrun started this one. `auto` and `cuda` take one GPU each.

        Raises:
            DeviceError: the device is missing or there are fewer GPUs than processes.
            SnnDtError: the processes cannot reach each other.
        """
        self.world_size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0")) if self.world_size > 1 else 0
        self.first = self.rank == 0
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._local_rank = os.environ.get("LOCAL_RANK", "0")
        self.device = choose_device(device)
        if self.world_size == 1:
            return
        if self.device.type == "cuda":
            if device in ("auto", "cuda"):
                self.device = choose_device(f"cuda:{self._local_rank}")
            torch.cuda.set_device(self.device)
        try:
            # Control messages are CPU tensors, which gloo sends without waiting for a GPU.
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if self.device.type == "cuda" else "gloo", timeout=EVALUATION_TIMEOUT
            )
        except (RuntimeError, ValueError) as error:
            raise SnnDtError(
                f"expected {self.world_size} processes to meet, found: {error}; start them with torchrun, see "
                "docs/scale.md"
            ) from error

    def check(self, batch_size: int, accumulate: int, stateful: bool = False) -> None:
        """Check that the batch can be divided among the processes.

        Raises:
            ConfigError: there are fewer windows than processes, or the run is stateful and has several processes.
        """
        if stateful and self.world_size > 1:
            raise ConfigError(
                f"train.stateful: expected false in {self.world_size} processes, found true: a checkpoint holds the "
                "state of one; start a single process or draw single windows"
            )
        if batch_size < self.world_size * accumulate:
            raise ConfigError(
                f"train.batch_size: expected at least a window for each of {self.world_size} processes x {accumulate} "
                f"micro-batches, found {batch_size}; raise it or start fewer processes"
            )

    def begin(self, model: nn.Module, seed: int, step: int) -> None:
        """Copy the weights of process 0 to all processes and give each other process its own dropout seed."""
        if self.world_size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, src=0)
        if not self.first:
            # Equal seeds would drop the same units in all slices.
            torch.manual_seed(int(np.random.SeedSequence([seed, self.rank, step]).generate_state(1)[0]))

    def first_here(self, load: Callable[[], T]) -> T:
        """Return `load()`. One process per machine calls it first. The others then read its cache."""
        # Concurrent processes would build the same cache several times.
        mine = load() if self._local_rank == "0" else None
        if self.world_size > 1:
            dist.barrier()
        return load() if mine is None else mine

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of a tensor over the processes."""
        if self.world_size > 1:
            _all_reduce(value)
        return value

    def sum_gradients(self, model: nn.Module, metrics: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum the gradients over the processes in place and return the sums of the metrics."""
        if self.world_size == 1:
            return metrics
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        # [P + M]: all gradients and metrics in one message.
        flat = torch.cat([*(g.reshape(-1) for g in gradients), torch.stack([m.float() for m in metrics.values()])])
        _all_reduce(flat)
        *sums, totals = torch.split(flat, [*(g.numel() for g in gradients), len(metrics)])
        # [P] -> the shape of each gradient, in place.
        torch._foreach_copy_(gradients, [s.view_as(g) for s, g in zip(sums, gradients, strict=True)])
        return dict(zip(metrics, totals, strict=True))

    def agree(self, signum: int | None) -> int | None:
        """Return the largest signal number that any process has received, so all stop after the same update."""
        if self.world_size == 1:
            return signum
        received = torch.tensor(signum or 0)  # a CPU tensor: gloo sends it without waiting for a GPU
        _all_reduce(received, dist.ReduceOp.MAX)
        return int(received) or None

    def from_first(self, value: float) -> float:
        """Return the value of process 0."""
        if self.world_size == 1:
            return value
        return float(self.sum(torch.tensor(value if self.first else 0.0, dtype=torch.float64)))

    def leave(self) -> None:
        """Disconnect at the end of a run."""
        if self.world_size > 1:
            dist.destroy_process_group()


def _all_reduce(value: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> None:
    try:
        dist.all_reduce(value, op=operation)
    except RuntimeError as error:
        raise TrainingError(
            f"expected an answer from the other processes, found: {str(error).splitlines()[0]}; see what the others "
            "printed, and go on with --resume"
        ) from error
