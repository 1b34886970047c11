"""Curves of `snn-dt online` and `snn-dt finetune` runs: `results/online/{hover,finetune}.{csv,png}`.

    python experiments/online/results.py runs/online

reads the metrics of every run folder in it; a folder is named METHOD-seedN (hover) or ft-TASK-NAME-seedN (fine-tuning).
`hover_final.csv` evaluates the last actors of hover runs, alone, over 128 flights from seed 20000. Rows of other runs
in these files are kept. `seeds.csv` has the mean over the seeds of each method with its 95 % interval (Student's t).
`slopes.csv`: runs slope_NAME-seedN, updates until an evaluation returns 100 and return of the last one.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from snn_dt.experimental.online.config import load_online_config
from snn_dt.experimental.online.saved import load_actor
from snn_dt.experimental.online.score import score_flights
from snn_dt.experimental.online.task import make_task
from snn_dt.jsonl import read_rows
from snn_dt.report.style import CYCLE, new_figure, png, tidy

OUT = Path(__file__).parents[2] / "results" / "online"
HOVER = ("return", "return_std", "length", "lasted", "distance")
FINETUNE = ("target_return", "return_mean", "return_std", "episodes")
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % quantile of Student's t by the number of seeds."""
COUNTS = ("env_steps", "updates", "surrogate_slope")


def points(run: Path) -> list[dict[str, Any]]:
    """Return one row per evaluation of a run, with the environment steps and updates so far."""
    rows, counts = [], {"env_steps": 0}
    for line in read_rows(run / "metrics.jsonl"):
        counts |= {name: line[name] for name in COUNTS if name in line}
        where = {"run": run.name, "iteration": line["step"], **counts}
        if "score" in line:
            rows.append(where | {name: line["score"][name] for name in HOVER})
        rows += [where | {name: row[name] for name in FINETUNE} for row in line.get("evaluation", ())]
    return rows


def final(run: Path) -> list[dict[str, Any]]:
    """Evaluate the last actor of a hover run alone; not in the comparison of slopes."""
    if not (run / "actor").is_dir() or run.name.startswith("slope_"):
        return []
    score = score_flights(load_actor(run), make_task(load_online_config(run / "config.yaml").task), 128, 20_000)
    return [{"run": run.name, "flights": 128} | {name: score[name] for name in HOVER}]


def slope_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per run of the comparison of slopes; updates are interpolated between evaluations from (0, 0)."""
    found = []
    for run in sorted({row["run"] for row in rows}):
        own = [row for row in rows if row["run"] == run]
        updates, returns = ([0.0, *(row[key] for row in own)] for key in ("updates", "return"))
        at = next((i for i, value in enumerate(returns) if value >= 100), None)
        to_100 = float("nan")
        if at:
            to_100 = float(np.interp(100, returns[at - 1 : at + 1], updates[at - 1 : at + 1]))
        slope = own[-1]["surrogate_slope"]
        found.append({"run": run, "updates_to_100": round(to_100, 1), "return": round(returns[-1], 1), "slope": slope})
    return found


def with_earlier(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return `rows` and, before them, those of other runs that the CSV file has."""
    path, new = OUT / f"{name}.csv", {row["run"] for row in rows}
    if not path.exists():
        return rows
    with path.open(newline="") as file:
        earlier = [row for row in csv.DictReader(file) if row["run"] not in new]
    numbers = [{key: value if key == "run" else float(value) for key, value in row.items()} for row in earlier]
    return sorted(numbers + rows, key=lambda row: row["run"])


def of_seeds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per method of final scores: seeds, mean and 95 % interval of the return, share to the end."""
    methods: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        methods.setdefault(re.sub(r"-seed\d+$", "", row["run"]), []).append(row)
    found = []
    for method, own in methods.items():
        returns = np.array([row["return"] for row in own])
        n = len(returns)
        half = STUDENT[n] * float(returns.std(ddof=1)) / n**0.5 if n in STUDENT else float("nan")
        ends = {
            "lasted": float(np.mean([row["lasted"] for row in own])),
            "lowest_lasted": min(r["lasted"] for r in own),
        }
        found.append({"run": method, "seeds": n, "return": float(returns.mean()), "interval": half} | ends)
    return found


def table(rows: list[dict[str, Any]], name: str) -> None:
    """Write rows with equal columns as a CSV file."""
    with (OUT / f"{name}.csv").open("w", newline="") as file:
        lines = csv.DictWriter(file, rows[0].keys())
        lines.writeheader()
        lines.writerows(rows)


def draw(axes: Any, rows: list[dict[str, Any]], x: str, y: str, group: tuple[str, ...], label: str) -> None:
    """Draw y over x, one line per group of rows; the seeds of a method share a colour."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        lines.setdefault(", ".join(str(row[key]) for key in group), []).append(row)
    methods: list[str] = []
    for title, of_line in lines.items():
        xs, ys = ([row[key] for row in of_line] for key in (x, y))
        method = re.sub(r"-seed\d+", "", title)
        named = None if method in methods else method
        methods += [method] if named else []
        i = methods.index(method)
        style = ("-", "--", ":")[i // len(CYCLE) % 3]
        axes.plot(xs, ys, style, marker="o", markersize=4, color=CYCLE[i % len(CYCLE)], label=named)
    tidy(axes, "", label, "return")


def draw_hover(rows: list[dict[str, Any]]) -> None:
    """Draw one panel with a legend beside it."""
    figure = new_figure(6.8, 4.0)
    draw(figure.add_subplot(), rows, "updates", "return", ("run",), "updates")
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    (OUT / "hover.png").write_bytes(png(figure))


def draw_finetune(rows: list[dict[str, Any]]) -> None:
    """Draw one panel per task, as returns differ in scale."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        _, task, name = row["run"].split("-", 2)
        tasks.setdefault(task, []).append(row | {"run": name})
    figure = new_figure(4.2 * len(tasks), 4.6)
    for i, (task, own) in enumerate(tasks.items()):
        axes = figure.add_subplot(1, len(tasks), i + 1)
        draw(axes, own, "env_steps", "return_mean", ("run", "target_return"), "environment steps")
        axes.set_title(task)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), fontsize=8, frameon=False)
    (OUT / "finetune.png").write_bytes(png(figure))


def main(folder: Path) -> None:
    """Run the script."""
    OUT.mkdir(parents=True, exist_ok=True)
    runs = [points(run) for run in sorted(folder.iterdir()) if (run / "metrics.jsonl").exists()]
    hover = [row for rows in runs for row in rows if "target_return" not in row]
    scores = [row for run in sorted(folder.iterdir()) for row in final(run)]
    tuned = [row for rows in runs for row in rows if "target_return" in row]
    if slopes := [row for row in hover if row["run"].startswith("slope_")]:
        table(slope_rows(slopes), "slopes")
        hover = [row for row in hover if not row["run"].startswith("slope_")]
    if hover:
        hover = with_earlier(hover, "hover")
        table(hover, "hover")
        draw_hover(hover)
    if scores:
        scores = with_earlier(scores, "hover_final")
        table(scores, "hover_final")
        table(of_seeds(scores), "seeds")
    if tuned:
        tuned = with_earlier(tuned, "finetune")
        table(tuned, "finetune")
        draw_finetune(tuned)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
