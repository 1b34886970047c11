"""Streaming rows of the benchmark: time of a decision early and late in an episode, and memory of truncated BPTT.

    python scripts/bench/stream.py [--quick]

Weights are random, since none of this depends on them; sizes are CartPole's (D 64, 2 layers, K 20). One thread, its CPU
time: the wall clock of a machine with other work tells nothing. `act` and `observe` are timed as a user calls them,
medians of blocks of decisions, the two sides in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from worker import row

CONFIGS = Path(__file__).parents[2] / "configs"
CHECKPOINT = Path(__file__).parents[2] / "results" / "pretrained" / "cartpole-dense"


def rows(quick: bool, device: str = "cpu", peers_python: str | None = None) -> list[dict[str, Any]]:
    """Measure and return the rows of the table; on the CPU whatever `device` is."""
    import torch

    from snn_dt import from_pretrained
    from snn_dt.device import tune_allocator

    tune_allocator()
    torch.set_num_threads(1)
    dense = from_pretrained(CHECKPOINT, "cpu")
    stream = streaming(dense)
    blocks = 5 if quick else 15
    young, old = _ages(stream, blocks)
    ours, theirs = [], []
    for _ in range(blocks):
        ours.append(_decisions(stream, warm=20))
        theirs.append(_decisions(dense, warm=20))
    found = [
        row("one decision, snn_dt_stream, batch 1", ours, "our dense model, 20 steps of context", theirs, most=0.4),
        row("one decision, snn_dt_stream, at step 10,000", old, "at step 10", young, most=1.1),
    ]
    return [*found, _memory(quick)]


def streaming(dense: Any) -> Any:
    """Return a streaming policy with random weights for the environment of a dense policy."""
    import torch

    from snn_dt.config import load_config
    from snn_dt.evaluation.policy import Policy
    from snn_dt.models import build_model

    torch.manual_seed(0)
    config = load_config(*(CONFIGS / name for name in ("cartpole.yaml", "variant/snn_dt_stream.yaml"))).model
    return Policy(build_model(config, dense.model.task), dense.spec, dense.state_mean, dense.state_std)


def _decisions(policy: Any, warm: int, count: int = 100, begin: bool = True) -> float:
    """Return the median milliseconds of `count` decisions after `warm` others."""
    import numpy as np

    observations = np.random.default_rng(0).normal(size=(warm + count, policy.model.state_dim)).astype(np.float32)
    if begin:
        policy.reset(500.0)
    times = []
    for observation in observations:
        start = time.process_time()
        policy.act(observation)
        policy.observe(1.0)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times[warm:])


def _ages(policy: Any, blocks: int) -> tuple[list[float], list[float]]:
    """Return milliseconds of decisions 10 to 29, and of those from 10,000 on."""
    policy.reset(500.0)
    _decisions(policy, warm=0, count=10_000, begin=False)
    aged = policy.state()
    young, old = [], []
    for _ in range(10 * blocks):
        young.append(_decisions(policy, warm=10, count=20))
        policy.load_state(aged)
        old.append(_decisions(policy, warm=10, count=20, begin=False))
    return young, old


def _memory(quick: bool) -> dict[str, Any]:
    """Return the peak bytes of autograd, truncated at 50 steps: over 5,000 steps and over 500."""
    import torch

    from snn_dt.learning.tbptt import TBPTT
    from snn_dt.model_config import ModelConfig
    from snn_dt.models import TaskShape, build_model

    model = build_model(ModelConfig(kind="snn_dt_stream"), TaskShape(4, 2, True, 500))

    def most(length: int, window: int) -> float:
        held = [0, 0]

        class Kept:
            def __init__(self, x: Any) -> None:
                self.x = x
                held[0] += x.nbytes
                held[1] = max(held)

            def __del__(self) -> None:
                held[0] -= self.x.nbytes

        batch = torch.rand(4, length, 1), torch.randn(4, length, 4), torch.zeros(4, length, dtype=torch.int64)
        tbptt = TBPTT(model.scan, window, dim=1)
        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.x):
            for _, outputs in tbptt(*batch, torch.ones(4, length, dtype=torch.bool)):
                outputs.square().sum().backward()
        return held[1] / 2**20

    short, long, whole = most(500, 50), most(500 if quick else 5000, 50), most(500, 500)
    return {
        "work": f"TBPTT of 50 steps, 4 rows, over {500 if quick else 5000} steps (all 500 at once: {whole:.0f} MB)",
        **{"value": long, "spread": None, "unit": "MB held", "peer": "over 500 steps", "peer_value": short},
        **{"ratio": long / short, "target": "<= 1.01x", "met": long <= 1.01 * short},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    for one in rows(parser.parse_args().quick):
        print(json.dumps(one))
