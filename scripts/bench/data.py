"""Data rows of the benchmark: windows per CPU second, opening a cached dataset, memory to train on a large one.

    python scripts/bench/data.py [--quick] [--peers-python PYTHON]     PYTHON: of a venv with d3rlpy 2.8.1

The dataset is synthetic, of Hopper's shape (11 observations, 3 actions, episodes of 1 to 1000 steps), in D4RL's layout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

BATCH, CONTEXT = 64, 20
READ = ("observations", "actions", "rewards", "terminals", "timeouts")

# Runs in the peer's venv: d3rlpy's own sampler over the same file, windows per CPU second, one line per repeat.
_D3RLPY = """
import sys, time, h5py, numpy as np
from d3rlpy.dataset import BasicTrajectorySlicer, MDPDataset
path, batch, context, seconds, repeats = sys.argv[1], *map(int, sys.argv[2:])
with h5py.File(path) as f:
    o, a, r, t, e = (f[k][()] for k in ("observations", "actions", "rewards", "terminals", "timeouts"))
last = np.flatnonzero(t | e)[-1] + 1
buffer = MDPDataset(o[:last], a[:last], r[:last], t[:last].astype("float32"), e[:last].astype("float32"),
                    trajectory_slicer=BasicTrajectorySlicer())
np.random.seed(0)
for _ in range(repeats):
    windows, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        buffer.sample_trajectory_batch(batch, context)
        windows += batch
    print("rate", windows / (time.process_time() - start))
"""

# Runs in a process of its own, so that nothing else counts: the growth of its resident memory in MB.
_MEMORY = """
import re, sys
import gymnasium, h5py, minari.serialization, torch
import snn_dt
from snn_dt.data.windows import WindowSampler

def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

spec, steps, batch, context = sys.argv[1], *map(int, sys.argv[2:])
resident, private = megabytes("VmRSS"), megabytes("RssAnon")
trajectories = snn_dt.load_dataset(spec)
windows = WindowSampler(trajectories, context, rtg_scale=1000.0)
for step in range(steps):
    windows.batch(0, step, batch)
print(megabytes("VmHWM") - resident, megabytes("RssAnon") - private)
"""


def write_dataset(path: Path, steps: int, compression: str | None = "gzip") -> None:
    """Write `steps` rows in D4RL's layout, block by block."""
    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.integers(1, 914, size=steps // 400))  # mean length 457
    with h5py.File(path, "w") as file:
        shapes = {"observations": (11,), "actions": (3,), "rewards": ()}
        for name, shape in shapes.items():
            chunks = (1 << 14, *shape)
            column = file.create_dataset(name, (steps, *shape), np.float32, compression=compression, chunks=chunks)
            for start in range(0, steps, 1 << 18):
                rows = min(1 << 18, steps - start)
                column[start : start + rows] = rng.uniform(-1, 1, (rows, *shape)).astype(np.float32).round(3)
        file["terminals"] = np.isin(np.arange(steps), ends[::2] - 1)
        file["timeouts"] = np.isin(np.arange(steps), np.append(ends[1::2], steps) - 1)


def rows(quick: bool, device: str = "cpu", peers_python: str | None = None) -> list[dict[str, Any]]:
    """Measure and return the rows `work, value, unit, peer, peer_value, ratio, target, met`."""
    with tempfile.TemporaryDirectory(prefix="snn_dt-bench-") as folder:
        previous = os.environ.get("SNN_DT_CACHE")
        os.environ["SNN_DT_CACHE"] = str(Path(folder) / "cache")
        try:
            return _rows(Path(folder), quick, peers_python)
        finally:
            os.environ.pop("SNN_DT_CACHE") if previous is None else os.environ.update(SNN_DT_CACHE=previous)


def _rows(folder: Path, quick: bool, peers_python: str | None) -> list[dict[str, Any]]:
    import snn_dt
    from snn_dt.data.windows import WindowSampler

    path, seconds, repeats = folder / "hopper_1m.hdf5", 1 if quick else 3, 3 if quick else 5
    write_dataset(path, 1_000_000)
    trajectories = snn_dt.load_dataset(f"d4rl:{path}")
    windows = WindowSampler(trajectories, CONTEXT, rtg_scale=1000.0)
    ours = [_rate(lambda step: windows.batch(0, step, BATCH), seconds) for _ in range(repeats)]
    theirs = _d3rlpy(peers_python, path, seconds, repeats) if peers_python else None
    opened = [_cpu_seconds(lambda: snn_dt.load_dataset(f"d4rl:{path}")) for _ in range(repeats)]
    read_all = [_cpu_seconds(lambda: _read_cache(f"d4rl:{path}")) for _ in range(repeats)]
    h5 = [_cpu_seconds(lambda: _read_hdf5(path)) for _ in range(repeats)]
    path.unlink()

    million = 2 if quick else 10
    large = folder / f"hopper_{million}m.hdf5"
    write_dataset(large, million * 1_000_000, compression=None)
    build = _memory(f"d4rl:{large}", 0)
    # enough batches that nearly every page of the arrays has been touched
    resident, private = _memory(f"d4rl:{large}", 2_000 * million)
    limit = 70 * million
    return [
        _row(f"windows per CPU second, 1M transitions, batch {BATCH}, K {CONTEXT}", ours, "1/s", "d3rlpy", theirs, 5.0),
        _row("open a cached 1M-transition dataset", opened, "CPU s", "h5py, D4RL file", h5, 10.0, less_is_better=True),
        _row("open it and read it whole", read_all, "CPU s", "h5py, D4RL file", h5, None, less_is_better=True),
        _limit(f"resident memory to draw batches from {million}M transitions, all pages touched", resident, limit),
        _limit(f"of it private (not pages of the cache's files), {million}M transitions", private, limit),
        _limit(f"peak memory to build the cache of {million}M transitions", build[0], limit),
    ]


def _row(
    work: str,
    values: list[float],
    unit: str,
    peer: str,
    peer_values: list[float] | None,
    target: float | None,
    less_is_better: bool = False,
) -> dict[str, Any]:
    value, peer_value = statistics.median(values), statistics.median(peer_values) if peer_values else None
    ratio = None if peer_value is None else peer_value / value if less_is_better else value / peer_value
    return {
        "work": work,
        "value": value,
        "spread": [min(values), max(values)],
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": ratio,
        "target": f">= {target:g}x" if target else None,
        "met": None if target is None or ratio is None else ratio >= target,
    }


def _limit(work: str, value: float, limit: float) -> dict[str, Any]:
    """Return a row whose target is an amount, not a peer."""
    facts = {"work": work, "value": value, "unit": "MB above the process with its imports", "peer": None}
    return facts | {"peer_value": None, "ratio": None, "target": f"<= {limit:g} MB", "met": value <= limit}


def _rate(draw: Callable[[int], object], seconds: float) -> float:
    step, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        for _ in range(100):
            draw(step)
            step += 1
    return step * BATCH / (time.process_time() - start)


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _read_hdf5(path: Path) -> list[Any]:
    with h5py.File(path, "r") as file:
        return [file[name][()] for name in READ]


def _read_cache(spec: str) -> list[Any]:
    import snn_dt

    t = snn_dt.load_dataset(spec)
    return [np.array(array) for array in (t.observations, t.actions, t.rewards, t.returns_to_go)]


def _d3rlpy(python: str, path: Path, seconds: int, repeats: int) -> list[float]:
    arguments = [str(path), str(BATCH), str(CONTEXT), str(seconds), str(repeats)]
    return [float(line.split()[1]) for line in _run([python, "-c", _D3RLPY, *arguments]) if line.startswith("rate")]


def _memory(spec: str, steps: int) -> list[float]:
    """Return (growth of peak resident memory, growth of private memory) in MB."""
    output = _run([sys.executable, "-c", _MEMORY, spec, str(steps), str(BATCH), str(CONTEXT)])
    return [float(number) for number in output[-1].split()]


def _run(command: list[str]) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.splitlines()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peers-python")
    arguments = parser.parse_args()
    for row in rows(arguments.quick, peers_python=arguments.peers_python):
        print(json.dumps(row))
