"""Figures of a suite of runs (`suite.py` says what a record is)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from snn_dt.report.style import CYCLE, GREY, INK, new_figure, tidy
from snn_dt.report.suite import Record, by_variant

MARKERS = "osD^vPX*<>"


def returns_against_energy(records: Sequence[Record]) -> Figure:
    """Draw, for each dataset, the last return over the energy of a decision: a small dot a seed, a large one the mean.

    The dotted line is the best known agent, where the data name one.
    """
    datasets = list(dict.fromkeys(record["dataset"] for record in records))
    columns = min(2, len(datasets))
    rows = -(-len(datasets) // columns)
    figure = new_figure(5.2 * columns, 3.6 * rows + 0.5)
    names = list(dict.fromkeys(record["variant"] or record["model"] for record in records))
    handles = {}
    for i, dataset in enumerate(datasets):
        axes = figure.add_subplot(rows, columns, i + 1)
        own = [record for record in records if record["dataset"] == dataset]
        for name, runs in by_variant(own).items():
            k = names.index(name)
            style = {"color": CYCLE[k % len(CYCLE)], "marker": MARKERS[k % len(MARKERS)], "linewidths": 0}
            energy = np.array([run["evaluation"][0]["energy_pj_per_decision"] * 1e-6 for run in runs])
            returns = np.array([run["evaluation"][0]["return_mean"] for run in runs])
            axes.scatter(energy, returns, s=14, alpha=0.45, **style)
            handles[name] = axes.scatter(energy.mean(), returns.mean(), s=60, **style)
        if reference := next((run["reference"] for run in own if run.get("reference")), None):
            axes.axhline(reference["max"], color=GREY, linestyle=":", linewidth=1.2)
            axes.annotate(
                "best known agent", (0.01, reference["max"]), xycoords=("axes fraction", "data"), va="bottom",
                fontsize=8, color=INK,
            )  # fmt: skip
        axes.set_xscale("log")
        tidy(axes, f"{own[0]['env_id']}", "energy of a decision, µJ", "last return")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=9, frameon=False)
    return figure
