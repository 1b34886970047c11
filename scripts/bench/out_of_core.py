"""Out-of-core rows of the benchmark: training on a dataset four times as large as its memory limit.

    python scripts/bench/out_of_core.py [--quick]

The training process is put into a control group with a memory limit, which counts its own memory and the pages of
the dataset that the kernel keeps for it; the pages that writing the dataset left are thrown out before. Making the
group takes root (cgroup v1), or systemd (v2). The dataset is synthetic: 100 observations, 20 actions, Hopper's lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

OBSERVATIONS, ACTIONS = 100, 20
BYTES_PER_STEP = 4 * (OBSERVATIONS + ACTIONS + 1)
WARM_UP = 30
BLOCK = 1 << 15

# Prints, from update WARM_UP on: updates per second, and private memory in MB at the beginning and at the end.
_TRAIN = """
import json, re, sys, time
from pathlib import Path
from snn_dt.run import Run
from snn_dt.config import config_from_dict

def private():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024

config, folder, warm_up = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
run = Run(config_from_dict(config), folder)
draw, marks = run.batches, []

def marked(step):
    if step in (warm_up, config["train"]["steps"] - 1):
        marks.append((time.perf_counter(), private()))
    return draw(step)

run.batches = marked
run.train()
(begin, first), (end, last) = marks
print("measured", (config["train"]["steps"] - 1 - warm_up) / (end - begin), first, last)
"""


def rows(quick: bool, device: str = "cpu", peers_python: str | None = None) -> list[dict[str, Any]]:
    """Measure and return the rows `work, value, unit, peer, peer_value, ratio, target, met`."""
    cap, updates, repeats = (500, 60, 1) if quick else (800, 230, 3)
    with tempfile.TemporaryDirectory(prefix="snn_dt-bench-", dir="/var/tmp") as name, limited_group(cap) as prefix:
        folder = Path(name)
        spec = write_dataset(folder, 4 * cap)
        free: list[list[float]] = []
        capped: list[list[float]] = []
        for i in range(repeats):  # alternate, so that a busy moment of the machine affects both
            free.append(_train([], folder, spec, updates, f"free{i}"))
            if prefix is not None:
                forget(folder)
                capped.append(_train(prefix, folder, spec, updates, f"capped{i}"))
    value = statistics.median(rate for rate, _, _ in capped) if capped else None
    peer = statistics.median(rate for rate, _, _ in free)
    growth = [last - first for _, first, last in capped or free]
    return [
        {
            "work": f"training on {4 * cap} MB of data in {cap} MB of memory",
            "value": value,
            "spread": [min(capped)[0], max(capped)[0]] if capped else None,
            "unit": "updates/s",
            "peer": "the same with all data in memory",
            "peer_value": peer,
            "ratio": value and value / peer,
            "target": ">= 0.95x",
            "met": value and value >= 0.95 * peer,
        },
        {
            "work": f"growth of its private memory over {updates - 1 - WARM_UP} updates",
            "value": max(growth),
            "unit": "MB",
            "peer": None,
            "peer_value": None,
            "ratio": None,
            "target": "<= 20 MB",
            "met": max(growth) <= 20,
        },
    ]


def write_dataset(folder: Path, megabytes: int) -> str:
    """Write a dataset in D4RL's layout and its cache; returns its spec. The HDF5 file is left as an empty shell."""
    import snn_dt

    path, steps = folder / "large.hdf5", megabytes * 1_000_000 // BYTES_PER_STEP
    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.integers(1, 914, size=steps // 400)) - 1
    with h5py.File(path, "w") as file:
        for name, shape in {"observations": (OBSERVATIONS,), "actions": (ACTIONS,), "rewards": ()}.items():
            column = file.create_dataset(name, (steps, *shape), np.float32)
            block = rng.uniform(-1, 1, (BLOCK, *shape)).astype(np.float32)
            for start in range(0, steps, BLOCK):
                column[start : start + BLOCK] = block[: steps - start]
        file["terminals"] = np.isin(np.arange(steps), ends[::2])
        file["timeouts"] = np.isin(np.arange(steps), np.append(ends[1::2], steps - 1))
    os.environ["SNN_DT_CACHE"] = str(folder / "cache")
    snn_dt.load_dataset(f"d4rl:{path}")
    return f"d4rl:{path}"


def forget(folder: Path) -> None:
    """Drop the page cache."""
    for path in folder.rglob("*.*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def limited_group(megabytes: int) -> Iterator[list[str] | None]:
    """Return the command prefix that limits memory by a control group; None where that is impossible."""
    own = re.search(r"^\d+:memory:(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE)
    scope = ["systemd-run", "--scope", "--quiet", "-p", f"MemoryMax={megabytes}M", "-p", "MemorySwapMax=0"]
    if own is not None:
        group = Path("/sys/fs/cgroup/memory") / own[1].strip("/") / f"snn_dt-bench-{os.getpid()}"
        try:
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(megabytes * 1_000_000))
        except OSError:
            yield None
            return
        try:
            yield ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]
        finally:
            group.rmdir()
    else:
        words = [scope, [*scope, "--user"]]
        yield next((w for w in words if subprocess.run([*w, "true"], capture_output=True).returncode == 0), None)


def _train(prefix: list[str], folder: Path, spec: str, updates: int, name: str) -> list[float]:
    config = {
        "model": {"kind": "dense", "d_model": 128, "n_layers": 3, "n_heads": 4, "context_length": 20},
        "data": {"dataset": spec},
        "train": {"steps": updates, "batch_size": 64, "log_every": updates, "save_every": updates, "threads": 1},
        "eval": {"episodes": 0},
        "track": {"wandb": "disabled"},
    }
    (folder / name).mkdir()
    command = [*prefix, sys.executable, "-c", _TRAIN, json.dumps(config), str(folder / name), str(WARM_UP)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr}")
    return [float(word) for word in done.stdout.splitlines()[-1].split()[1:]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    for row in rows(parser.parse_args().quick):
        print(json.dumps(row))
