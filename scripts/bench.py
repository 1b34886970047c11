"""Run the benchmark: each speed is a ratio against a named peer in the same run.

    python scripts/bench.py [--quick] [--only lif model data rollout ...] [--lif-peers PYTHON] [--dt-peers PYTHON]
                            [--device cuda] [--threads 1] [--out results/bench]

Prints the table and writes `bench.json` (a list of rows) and `bench.md` to the output folder. The peers live in venvs
of their own, each script in scripts/bench/ says which packages; without them their columns stay empty. The machine must
be quiet; `--threads 1` takes the model rows on one thread and in CPU time, which a busy one disturbs less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "bench"))

# Part, and which venv its peers are in.
PARTS = {
    **{"lif": "lif_peers", "model": "dt_peers", "data": "dt_peers"},
    **{"rollout": None, "stream": None, "out_of_core": None, "pixels": None, "data_parallel": None},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, at most 3 minutes")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--lif-peers", metavar="PYTHON", help="interpreter with snnTorch, SpikingJelly and Norse")
    parser.add_argument("--dt-peers", metavar="PYTHON", help="interpreter with transformers and d3rlpy")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2, choices=(1, 2), help="of the model rows; 1: CPU time")
    parser.add_argument("--out", type=Path, default=Path("results/bench"))
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for part in arguments.only:
        peers = getattr(arguments, PARTS[part]) if PARTS[part] else None
        options = {"threads": arguments.threads} if part == "model" else {}
        for row in import_module(part).rows(arguments.quick, device=arguments.device, peers_python=peers, **options):
            rows.append({"part": part, **row, "device": arguments.device})
            print(line(row), flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    suffix = "" if arguments.device == "cpu" else f"-{arguments.device}"
    (arguments.out / f"bench{suffix}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (arguments.out / f"bench{suffix}.md").write_text(page(rows, arguments))
    return 0


def line(row: dict[str, Any]) -> str:
    """Return a row as a line of a Markdown table."""
    low, high = row.get("spread") or (None, None)
    spread = "" if low is None else f" ({_number(low)} to {_number(high)})"
    met = {True: "yes", False: "**no**", None: "not measured" if row["target"] else ""}[row["met"]]
    cells = [
        row["work"],
        f"{_number(row['value'])}{spread} {row['unit']}",
        f"{row['peer'] or '-'}: {_number(row['peer_value'])}",
        _number(row["ratio"]),
        row["target"] or "",
        met,
    ]
    return "| " + " | ".join(cells) + " |"


def page(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    """Return the Markdown table and its conditions."""
    import torch

    peers = [f"--{name} PYTHON" for name in ("lif-peers", "dt-peers") if getattr(arguments, name.replace("-", "_"))]
    options = ["--quick"] if arguments.quick else []
    options += ["--threads", "1"] if arguments.threads == 1 else []
    options += ["--device", "cuda"] if arguments.device == "cuda" else []
    gpu = f"{torch.cuda.get_device_name()}, " if arguments.device == "cuda" else ""
    command = " ".join(["python scripts/bench.py", *options, "--only", *arguments.only, *peers])
    head = [
        "# Benchmark",
        "",
        f"`{command}`",
        "",
        f"{gpu}{_cpu()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}.",
        "Median (least to most).",
        "",
        "| work | ours | peer | ratio | target | met |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(line, rows)]) + "\n"


def _cpu() -> str:
    try:
        names = [
            x.partition(":")[2].strip() for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x
        ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
