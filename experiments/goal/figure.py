"""Draw target against return of the policies in results/goal/evaluations.json: `python experiments/goal/figure.py`."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt

FOLDER = Path(__file__).parents[2] / "results" / "goal"


def main() -> None:
    """Write results/goal/target.png: one panel per task, a line where the return equals the target."""
    calibrations = {n: r for n, r in json.loads((FOLDER / "evaluations.json").read_text()).items() if "nine" in n}
    tasks = sorted({name.split()[0] for name in calibrations})
    figure, panels = plt.subplots(1, len(tasks), figsize=(4.2 * len(tasks), 3.8), layout="constrained", squeeze=False)
    for axes, task in zip(panels[0], tasks, strict=True):
        for name, rows in calibrations.items():
            if name.split()[0] != task:
                continue
            targets, means = ([row[key] for row in rows] for key in ("target_return", "return_mean"))
            arms = [[abs(row["return_mean"] - row["return_interval"][i]) for row in rows] for i in (0, 1)]
            axes.errorbar(targets, means, arms, fmt="o", markersize=4, label=name.split()[1], capsize=2)
        ends = axes.get_xlim()
        axes.plot(ends, ends, color="grey", linewidth=1, zorder=0)
        axes.set(title=task, xlabel="target return", ylabel="return, mean of 10 episodes")
        axes.legend()
    figure.savefig(FOLDER / "target.png", dpi=90)


if __name__ == "__main__":
    main()
