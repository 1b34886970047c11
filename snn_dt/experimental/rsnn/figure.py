"""Training curves of `snn-dt rsnn` from rows of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from snn_dt.report.style import CYCLE, new_figure, tidy

Rows = Sequence[Mapping[str, Any]]
COLUMNS = ("step", "test_loss", "test_error", "test_firing_rate", "test_operations", "connections")


def evaluations(rows: Rows) -> list[dict[str, Any]]:
    """Return one row per evaluation with `COLUMNS`; `connections` is the last recorded number before it."""
    found, connections = [], None
    for row in rows:
        # training rows hold the connections, evaluation rows the test figures
        connections = row.get("connections", connections)
        if "test_error" in row:
            found.append({**{name: row[name] for name in COLUMNS[:-1]}, "connections": connections})
    return found


def rsnn_figure(runs: Mapping[str, Rows], title: str = "") -> Figure:
    """Draw error and accumulates per sample over the updates. Each named run is one line."""
    figure = new_figure(10.5, 3.8)
    left, right = figure.subplots(1, 2)
    for colour, (name, rows) in zip(CYCLE * len(runs), runs.items(), strict=False):
        points = evaluations(rows)
        steps = [row["step"] for row in points]
        for axes, what in ((left, "test_error"), (right, "test_operations")):
            values = [row[what] for row in points]
            axes.plot(steps, values, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=name)
    tidy(left, title, "update", "error")
    tidy(right, "", "update", "accumulates per sample")
    left.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    left.legend(fontsize=9, frameon=False)
    return figure
