"""Figures of returns and training, as matplotlib Figures.

An evaluation row is an object from `snn-dt evaluate --json`. The figures use its `target_return`, `returns`,
`return_mean` and `return_interval`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from snn_dt.report.style import CYCLE, DASHES, GREY, INK, ORANGE, identity, new_figure, tidy, variant_styles

Row = Mapping[str, Any]
TARGET = "target return (sum of rewards)"


def return_vs_target(
    evaluations: Sequence[Row],
    data_returns: ArrayLike | None = None,
    reference: Mapping[str, float] | None = None,
    variant: str = "",
) -> Figure:
    """Draw the achieved return over the target return. No line joins the points: between targets nothing was measured.

    Args:
        evaluations: one row per target return. Each episode is a small dot; the mean has its interval.
        data_returns: `[E]` episode returns of the training data or their quantiles, for a histogram below.
        reference: named returns, such as random and expert. Each is a dotted horizontal line.
        variant: name of the model; it chooses colour and marker.
    """
    rows = sorted(evaluations, key=lambda row: row["target_return"])
    targets = np.array([row["target_return"] for row in rows], dtype=float)
    means = np.array([row["return_mean"] for row in rows], dtype=float)
    intervals = np.array([row.get("return_interval") or [m, m] for row, m in zip(rows, means, strict=True)])
    data = np.asarray([] if data_returns is None else data_returns, dtype=float)
    levels = dict(reference or {})
    episodes = np.concatenate([np.asarray(row.get("returns", []), dtype=float) for row in rows])  # [rows E]
    low, high = _limits(np.concatenate([targets, means, episodes, data, [*levels.values()]]))
    (look,) = variant_styles([variant or "snn_dt"]).values()

    figure = new_figure(5.6, 6.4 if data.size else 5.2)
    grid = figure.add_gridspec(2, 1, height_ratios=(4, 1)) if data.size else None
    axes = figure.add_subplot() if grid is None else figure.add_subplot(grid[0])
    for name, value in levels.items():
        axes.axhline(value, color=ORANGE, linestyle=":", linewidth=1.5)
        axes.annotate(name, (1.01, value), xycoords=("axes fraction", "data"), va="center", fontsize=9, color=INK)
    for row in rows:
        returns = np.asarray(row.get("returns", []), dtype=float)
        # Equal returns are spread sideways by a fixed pattern: they stay visible, and equal data give equal figures.
        aside = (np.arange(returns.size) * 0.618034 % 1.0 - 0.5) * 0.03 * (high - low)
        axes.scatter(row["target_return"] + aside, returns, s=14, color=GREY, alpha=0.45, linewidths=0)
    axes.errorbar(
        # [rows, 2] -> [2, rows]: lengths of both arms
        targets, means, np.abs(intervals.T - means), fmt=look["marker"], markersize=8, color=look["color"],
        markeredgecolor="white", capsize=4, linewidth=2, label="mean and its 95 % interval",
    )  # fmt: skip
    axes.scatter([], [], s=14, color=GREY, alpha=0.45, linewidths=0, label="an episode")
    axes.set(xlim=(low, high), ylim=(low, high))
    identity(axes, low, high)
    title = " on ".join(str(name) for name in (variant, rows[0].get("env_id")) if name)
    tidy(axes, title, TARGET, "achieved return (sum of rewards)")
    if grid is not None:
        axes.set_xlabel("")
        axes.tick_params(labelbottom=False)
        below = figure.add_subplot(grid[1], sharex=axes)
        below.hist(
            data, bins=np.linspace(low, high, 41).tolist(), weights=np.full(data.size, 100 / data.size), color="#AEB4BD"
        )
        tidy(below, "", TARGET, "% of the data's\nepisodes")
        below.yaxis.label.set_fontsize(9)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def learning_curve(rows: Sequence[Row]) -> Figure:
    """Draw metrics.jsonl over the updates: loss, return at each target and mean firing rate, if recorded.

    Returns need evaluations at two updates or more. Of two rows of one step (after a resume) the newer one is drawn.
    """
    panels = [
        (title, unit, curves)
        for title, unit, curves in (
            ("loss", "mean over valid steps", {name: _series(rows, name) for name in ("loss", "validation_loss")}),
            ("return", "sum of rewards", _returns_by_target(rows)),
            ("firing rate", "spikes per neuron and step", {"firing_rate": _series(rows, "firing_rate")}),
        )
        if any(curves.values())
    ]
    if not panels:
        raise ValueError("expected rows with a loss, a firing_rate or an evaluation, found none")
    figure = new_figure(4.2 * len(panels) + 0.6, 3.6)
    for axes, (title, unit, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw_curves(axes, {name: curve for name, curve in curves.items() if curve})
        if title == "loss" and all(point[0] > 0 for curve in curves.values() for point in curve.values()):
            # A logarithmic axis cannot show a loss of 0 or less.
            axes.set_yscale("log")
            axes.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        tidy(axes, title, "update", unit)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    # Equal values would give an axis without width.
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def _series(rows: Sequence[Row], name: str) -> dict[int, tuple[float, float, float]]:
    return {row["step"]: (row[name],) * 3 for row in rows if isinstance(row.get(name), (int, float))}


def _returns_by_target(rows: Sequence[Row]) -> dict[str, dict[int, tuple[float, float, float]]]:
    """Return (mean, low, high) by step, for each target."""
    curves: dict[str, dict[int, tuple[float, float, float]]] = {}
    for row in rows:
        for result in row.get("evaluation", []):
            mean = result["return_mean"]
            low, high = result.get("return_interval") or (mean, mean)
            curves.setdefault(f"target {result['target_return']:g}", {})[row["step"]] = (mean, low, high)
    evaluated = {step for curve in curves.values() for step in curve}
    return curves if len(evaluated) > 1 else {}


def _draw_curves(axes: Axes, curves: Mapping[str, Mapping[int, tuple[float, float, float]]]) -> None:
    # Dashes beside colours: the curves can be told apart in grey.
    for i, (name, curve) in enumerate(curves.items()):
        colour, dashes = CYCLE[i % len(CYCLE)], DASHES[i % len(DASHES)]
        steps = sorted(curve)
        # [steps, 3] -> [3, steps]
        middle, low, high = np.array([curve[step] for step in steps]).T
        marker = "o" if len(steps) < 15 else ""
        axes.plot(steps, middle, color=colour, linestyle=dashes, linewidth=1.8, marker=marker, markersize=4, label=name)
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    if len(curves) > 1:
        axes.legend(fontsize=9, frameon=False)
