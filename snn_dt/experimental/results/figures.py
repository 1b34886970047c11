"""Figures of the runs of a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from snn_dt.experimental.results.records import Record, uncommitted
from snn_dt.experimental.results.table import by_dataset, by_variant
from snn_dt.report.style import GREY, INK, identity, new_figure, tidy, variant_styles


def returns_against_energy(records: Sequence[Record]) -> Figure:
    """Draw the last return over the energy of a decision, with one panel per dataset.

    A small dot is a seed and a large dot the mean. A dotted line shows the best known agent if the dataset names one.
    """
    return _returns_against(records, "energy_pj_per_decision", 1e-6, "energy of a decision, µJ")


def returns_against_spikes(records: Sequence[Record]) -> Figure:
    """Draw the last return over the spikes of a decision for spiking models."""
    spiking = [record for record in records if record["evaluation"][0]["spikes_per_decision"]]
    return _returns_against(spiking, "spikes_per_decision", 1.0, "spikes of a decision")


def _returns_against(records: Sequence[Record], name: str, scale: float, label: str) -> Figure:
    def draw(axes: Axes, runs: Sequence[Record], style: dict[str, Any]) -> Any:
        cost = np.array([run["evaluation"][0][name] * scale for run in runs])
        returns = np.array([run["evaluation"][0]["return_mean"] for run in runs])
        for run, x, y in zip(runs, cost, returns, strict=True):
            _dot(axes, run, x, y, style)
        return axes.scatter(cost.mean(), returns.mean(), s=60, linewidths=0, **style)

    figure = _panels(records, draw, label, "last return (sum of rewards)")
    for axes in figure.axes:
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        if high / low < 10:  # below a decade the locator labels too many numbers
            # One decade around the geometric mean.
            low, high = (low * high / 10) ** 0.5, (low * high * 10) ** 0.5
            axes.set_xlim(low, high)
        steps = (1, 2, 5) if high / low < 100 else (1,)
        axes.xaxis.set(major_locator=LogLocator(subs=steps), minor_locator=NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    return figure


def returns_against_target(records: Sequence[Record]) -> Figure:
    """Draw the return over the target return, with one panel per dataset. Small dots are seeds, large ones means."""

    def draw(axes: Axes, runs: Sequence[Record], style: dict[str, Any]) -> Any:
        targets = [row["target_return"] for row in runs[0]["evaluation"]]
        returns = np.array([[row["return_mean"] for row in run["evaluation"]] for run in runs])  # [seeds, targets]
        for run, one in zip(runs, returns, strict=True):
            _dot(axes, run, targets, one, style)
        # No line joins the means: between two targets nothing was measured.
        return axes.scatter(targets, returns.mean(0), s=60, linewidths=0, **style)

    shown = [record for record in records if len(record["evaluation"]) > 1]
    figure = _panels(shown, draw, "target return (sum of rewards)", "last return (sum of rewards)")
    for axes in figure.axes:
        low, high = axes.get_xlim()
        identity(axes, low, high)
        axes.set_xlim(low, high)
    return figure


def _dot(axes: Axes, run: Record, x: Any, y: Any, style: dict[str, Any]) -> None:
    """Draw the dot of one run. It is hollow if the code was not committed."""
    if uncommitted(run):
        look = {"facecolors": "none", "edgecolors": style["color"], "marker": style["marker"], "linewidths": 0.8}
    else:
        look = {"linewidths": 0, **style}
    axes.scatter(x, y, s=14, alpha=0.45, **look)


def _panels(
    records: Sequence[Record], draw: Callable[[Axes, Sequence[Record], dict[str, Any]], Any], xlabel: str, ylabel: str
) -> Figure:
    """Return a figure with a panel per dataset. `draw` draws one variant and returns its artist for the legend."""
    datasets = by_dataset(records)
    columns = min(2, len(datasets))
    lines = -(-len(datasets) // columns)
    figure = new_figure(5.2 * columns, 3.6 * lines + 0.7)
    names, marks = list(by_variant(records)), {}
    styles = variant_styles(names)
    for i, (dataset, own) in enumerate(datasets.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        axes.margins(x=0.08, y=0.12)
        for name, runs in by_variant(own).items():
            marks[name] = draw(axes, runs, styles[name])
        if reference := next((run["reference"] for run in own if run.get("reference")), None):
            axes.axhline(reference["max"], color=GREY, linestyle=":", linewidth=1.2)
            axes.annotate(
                "best known agent", (0.01, reference["max"]), xycoords=("axes fraction", "data"), va="bottom",
                fontsize=8, color=INK,
            )  # fmt: skip
        tidy(axes, f"{own[0]['env_id']}, {dataset.split('/')[-1]}", xlabel, ylabel)
    figure.legend(
        [marks[name] for name in names], names, loc="outside lower center", ncols=5, fontsize=9, frameon=False
    )
    return figure
