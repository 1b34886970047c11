"""Pixel rows of the benchmark: reading and training on more frames than memory.

    python scripts/bench/pixels.py [--quick]

Synthetic gray frames [84, 84, 1], episodes of 1,000 steps, stacks of 4 frames, windows of 30 steps, as Atari of the
Decision Transformer paper. The process is put into a control group with a memory limit, see out_of_core.py. The peer is
the same loader on float32 frames in memory, the layout of loaders without bytes, on as many frames as fit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from out_of_core import forget, limited_group

LENGTH, SHAPE, ACTIONS = 1000, (84, 84, 1), 4

_WORK = """
import json, re, sys, time
from pathlib import Path
from dataclasses import replace
import numpy as np
import torch
from snn_dt.config import config_from_dict
from snn_dt.data import WindowSampler
from snn_dt.data.cache import open_cached
from snn_dt.run import Run

torch.set_num_threads(1)
data = open_cached(Path(sys.argv[1]))
def private():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

def speed(sampler, batches):
    sampler.batch(0, 0, 16)
    begin = time.perf_counter()
    for step in range(1, 1 + batches):
        sampler.batch(0, step, 16)
    return 16 * batches / (time.perf_counter() - begin)

class Floats:
    def __init__(self, frames):
        self.frames = frames.astype(np.float32) / 255
    def batch(self, seed, step, n):
        rows = np.random.default_rng(step).integers(40, len(self.frames), n)[:, None] + np.arange(-29, 1)
        return torch.from_numpy(self.frames[rows[..., None] + np.arange(-3, 1)])

if sys.argv[2] == "float":
    print("measured", speed(Floats(np.asarray(data.observations[:20000])), 20))
else:
    rate = speed(WindowSampler(replace(data, frame_stack=4), 30, rtg_scale=1.0), 40)
    config = {
        "model": {"kind": "snn_dt", "d_model": 128, "n_layers": 3, "n_heads": 4, "context_length": 30},
        "data": {"frame_stack": 4},
        "train": {"steps": int(sys.argv[3]), "batch_size": 16, "log_every": 1, "threads": 1},
        "eval": {"episodes": 0},
        "track": {"wandb": "disabled"},
    }
    run = Run(config_from_dict(config), Path(sys.argv[4]), data=data)
    draw, most = run.batches, [0.0]
    def watched(step):
        most[0] = max(most[0], private())
        return draw(step)
    run.batches = watched
    run.train()
    print("measured", rate, max(most[0], private()))
"""


def rows(quick: bool, device: str = "cpu", peers_python: str | None = None) -> list[dict[str, Any]]:
    """Measure and return the rows `work, value, unit, peer, peer_value, ratio, target, met`."""
    steps, cap, updates = (200_000, 1000, 3) if quick else (1_000_000, 2000, 10)
    with tempfile.TemporaryDirectory(prefix="snn_dt-bench-", dir="/var/tmp") as name, limited_group(cap) as prefix:
        folder = Path(name) / "frames"
        write_frames(folder, steps)
        (floats,) = _measured([], folder, "float", updates)
        forget(folder)
        rate, private = _measured(prefix or [], folder, "bytes", updates)
    size = steps * int(np.prod(SHAPE)) // 1_000_000
    limit = f"{cap} MB of memory" if prefix else "memory without a limit"
    row = {"peer": None, "peer_value": None, "ratio": None}
    return [
        {
            "work": f"windows of 30 stacks of 4 frames, {size:,} MB of frames in {limit}",
            **{"value": rate, "unit": "windows/s", "peer": "20,000 float32 frames in memory", "peer_value": floats},
            **{"ratio": rate / floats, "target": None, "met": None},
        },
        {
            "work": f"private memory of training snn_dt on {steps:,} frames in {limit}",
            **row | {"value": private, "unit": "MB", "target": f"<= {cap} MB", "met": private <= cap},
        },
    ]


def write_frames(folder: Path, steps: int) -> None:
    """Write a dataset of random frames as the cache of a source."""
    from gymnasium import spaces

    from snn_dt.data.cache import build_cached
    from snn_dt.data.source import Episode, Source

    rng = np.random.default_rng(0)
    block = rng.integers(0, 256, (LENGTH + 97, *SHAPE), dtype=np.uint8)

    def episodes() -> Any:
        for index in range(steps // LENGTH):
            frames = block[index % 97 :][:LENGTH]
            yield Episode(frames, rng.integers(0, ACTIONS, LENGTH), np.ones(LENGTH), True, False)

    space = spaces.Box(0, 255, SHAPE, np.uint8)
    about = {"env_id": None, "env_spec": None, "time_limit": None, "reference": None}
    source = Source("frames", space, spaces.Discrete(ACTIONS), n_episodes=steps // LENGTH, episodes=episodes, **about)
    build_cached(source, folder, "dense")


def _measured(prefix: list[str], folder: Path, kind: str, updates: int) -> list[float]:
    folder.with_name("run").mkdir(exist_ok=True)
    command = [*prefix, sys.executable, "-c", _WORK, str(folder), kind, str(updates), str(folder.with_name("run"))]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"{kind}: {done.stderr}")
    line = next(line for line in reversed(done.stdout.splitlines()) if line.startswith("measured"))
    return [float(word) for word in line.split()[1:]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    for row in rows(parser.parse_args().quick):
        print(json.dumps(row))
