"""Table of results/minatar from the trials of a sweep: `table.py RUNS [--out records.json]`.

Prints a row per game and variant. `records.json` keeps every episode's return, the commit and the command.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from snn_dt.evaluation.statistics import mean
from snn_dt.experimental.results.robust_mean import nested_interval
from snn_dt.io import write_atomically

KEPT = ("trial", "variant", "seed", "updates", "commit", "command", "dataset", "dataset_checksum", "minutes")
COUNTS = ("spikes_per_decision", "macs_per_decision", "acs_per_decision", "energy_pj_per_decision")
EVALUATION = ("target_return", "returns", "seed", "episode_length_mean", "episodes_cut", *COUNTS)


def read(runs: Path) -> list[dict[str, Any]]:
    """Return a record for each finished trial."""
    records = []
    for file in sorted(runs.glob("*/result.json")):
        found = json.loads(file.read_text())
        rows = [{key: row[key] for key in EVALUATION} for row in found["evaluation"]]
        records.append({key: found[key] for key in KEPT} | {"evaluation": rows})
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Return a row per game and variant: returns at both targets, with intervals, and the cost of a decision."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["trial"].split("-")[0], record["variant"]].append(record)
    lines = [
        "| game | policy | seeds | return at the best tenth | at the low target | spikes | MACs | ACs | µJ |",
        "|---|---|---:|---|---|---:|---:|---:|---:|",
    ]
    for (game, variant), own in groups.items():
        high, low = ([record["evaluation"][i] for record in own] for i in (0, 1))
        counts = [np.mean([row[key] for row in high]) for key in COUNTS[:4]]
        cost = f"{counts[0]:,.0f} | {counts[1]:,.0f} | {counts[2]:,.0f} | {counts[3] / 1e6:.3f}"
        lines.append(f"| {game} | {variant} | {len(own)} | {_returns(high)} | {_returns(low)} | {cost} |")
    return "\n".join(lines)


def _returns(rows: list[dict[str, Any]]) -> str:
    """Return the target, the mean over all episodes of all seeds, and its interval over both."""
    returns = np.array([[row["returns"]] for row in rows])  # [R, 1, E]
    low, high = nested_interval(mean, returns, rng=np.random.default_rng(0))
    return f"{rows[0]['target_return']:.1f}: {returns.mean():.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Print the table, and keep the records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    records = read(options.runs)
    print(table(records))
    if options.out:
        write_atomically(options.out, json.dumps(records, separators=(",", ":")))


if __name__ == "__main__":
    main()
