"""Cosine between the gradients of e-prop and BPTT over the strength of the recurrence: recurrence.csv and a table.

Usage: python experiments/rsnn/recurrence.py [FOLDER]      default: results/rsnn
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from snn_dt.experimental.analysis.recurrence import COLUMNS, recurrence_rows


def main() -> None:
    """Run the script."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "results/rsnn")
    rows = recurrence_rows()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "recurrence.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    print("| neuron | g | " + " | ".join(COLUMNS) + " | spikes per step |\n|---|---|" + "---|" * (len(COLUMNS) + 1))
    for row in rows:
        cells = [f"{row[name]:.2f}" for name in (*COLUMNS, "firing_rate")]
        print(f"| {row['neuron']} | {row['gain']:g} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
