"""Data-parallel rows of the benchmark: two gloo processes of one thread, against DDP and against one process.

    python scripts/bench/data_parallel.py [--quick]

Timed: forward, backward and the sum of gradients of a dense model of width 128, 3 layers, K 20.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

BATCH, CONTEXT = 64, 20


def rows(quick: bool, device: str = "cpu", peers_python: str | None = None) -> list[dict[str, Any]]:
    """Measure and return the rows `work, value, unit, peer, peer_value, ratio, target, met`."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, __file__, "--worker", str(10 if quick else 40)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(done.stderr)
    times = json.loads(done.stdout.splitlines()[-1])
    ours, ddp, one = (statistics.median(times[name]) for name in ("sum", "ddp", "one"))
    common = {"unit": "ms", "value": ours, "spread": [min(times["sum"]), max(times["sum"])]}
    work = f"gradient of a batch of {BATCH} on two processes"
    return [
        {"work": work, **common, "peer": "DistributedDataParallel", "peer_value": ddp, "ratio": ddp / ours}
        | {"target": ">= 0.9x", "met": ddp / ours >= 0.9},
        {"work": f"{work}, the gain", **common, "peer": "one process", "peer_value": one, "ratio": one / ours}
        | {"target": None, "met": None},
    ]


def worker(rounds: int) -> None:
    """Time the three in alternation in every process; the first process prints milliseconds."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from snn_dt.config import ModelConfig
    from snn_dt.models import TaskShape, build_model
    from snn_dt.training.distributed import Workers

    workers = Workers("cpu")
    torch.set_num_threads(1)
    config = ModelConfig(kind="dense", d_model=128, n_layers=3, n_heads=4, context_length=CONTEXT).resolved()
    task = TaskShape(11, 3, False, 1000)
    plain, wrapped = build_model(config, task), DistributedDataParallel(build_model(config, task))

    def gradient(model: torch.nn.Module, batch: int, how: str) -> float:
        mask = torch.ones(batch, CONTEXT, dtype=torch.bool)
        steps = torch.arange(CONTEXT).expand(batch, -1)
        inputs = [torch.randn(batch, CONTEXT, width) for width in (1, 11, 3)]
        model.zero_grad(set_to_none=True)
        dist.barrier()
        begin = time.perf_counter()
        if how != "one" or workers.first:
            loss = model(*inputs, steps, mask).square().mean()
            loss.backward()
            if how == "sum":
                workers.sum_gradients(model, {"loss": loss.detach()})
        return 1000 * (time.perf_counter() - begin)

    times: dict[str, list[float]] = {"sum": [], "ddp": [], "one": []}
    for i in range(rounds + 3):
        for how, model, batch in (("sum", plain, BATCH // 2), ("ddp", wrapped, BATCH // 2), ("one", plain, BATCH)):
            taken = gradient(model, batch, how)
            if i >= 3:
                times[how].append(taken)
    if workers.first:
        print(json.dumps(times), flush=True)
    workers.leave()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", type=int, metavar="ROUNDS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
    else:
        for row in rows(arguments.quick):
            print(json.dumps(row))
