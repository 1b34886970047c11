"""Figures, curves.csv and a table of the runs in results/rsnn/runs/ (experiments/rsnn/run.sh makes them).

Usage: python experiments/rsnn/report.py [FOLDER]      default: results/rsnn
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from snn_dt.experimental.rsnn.figure import COLUMNS, evaluations, rsnn_figure
from snn_dt.jsonl import read_rows
from snn_dt.report.style import png

TITLES = {
    "pattern": "pattern generation",
    "evidence": "evidence accumulation",
    "hebbian": "four classes, from rewards",
    "classes": "four classes",
}


def main() -> None:
    """Run the script."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/rsnn")
    runs = {path.stem: read_rows(path) for path in sorted((folder / "runs").glob("*.jsonl"))}
    with (folder / "curves.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("run", *COLUMNS), lineterminator="\n")
        writer.writeheader()
        for name, rows in runs.items():
            writer.writerows({"run": name, **row} for row in evaluations(rows))
    for task, title in TITLES.items():
        own = {name.partition("-")[2]: rows for name, rows in runs.items() if name.startswith(f"{task}-")}
        if own:
            (folder / f"{task}.png").write_bytes(png(rsnn_figure(own, title)))
    print("| run | updates | error | best error | hidden rate, Hz | accumulates per sample | connections |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in runs.items():
        last, best = evaluations(rows)[-1], min(row["test_error"] for row in evaluations(rows))
        rate, operations = 1000 * last["test_firing_rate"], f"{last['test_operations']:,.0f}"
        cells = (name, last["step"], f"{last['test_error']:.3f}", f"{best:.3f}", f"{rate:.1f}", operations)
        print("| " + " | ".join(map(str, (*cells, last["connections"]))) + " |")


if __name__ == "__main__":
    main()
