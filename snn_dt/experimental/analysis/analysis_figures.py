"""Figures of `snn-dt analyse`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from snn_dt.report.style import BLUE, GREY, INK, VERMILLION, new_figure, tidy

Row = Mapping[str, Any]


def gradient_figure(rows: Sequence[Row], title: str = "") -> Figure:
    """Draw the size and direction of each layer's gradient over the slope. `rows` come from `gradient_rows`."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    slopes = sorted({row["slope"] for row in rows})
    figure = new_figure(10.5, max(4.2, 0.6 + 0.19 * len(layers)))
    left, right = figure.subplots(1, 2)
    for name, colour in zip(layers, shades(len(layers)), strict=True):
        own = sorted((row for row in rows if row["layer"] == name), key=lambda row: row["slope"])
        for axes, what in ((left, "magnitude"), (right, "cosine")):
            values = [row[what] for row in own]
            axes.plot(slopes, values, color=colour, linewidth=1.6, marker="o", markersize=3.5, label=name)
    left.set_yscale("log")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(slopes, [f"{slope:g}" for slope in slopes])
        axes.xaxis.set_minor_locator(NullLocator())
    tidy(left, title, "slope k", "mean |dL/dW|")
    tidy(right, "", "slope k", f"cosine to the gradient at k = {rows[0]['reference']:g}")
    layer_legend(figure, left)
    return figure


def stability_figure(rows: Sequence[Row], title: str = "") -> Figure:
    """Draw growth and decay over time for each layer of neurons. `rows` come from `stability_rows`."""
    names = [row["layer"] for row in rows]
    figure = new_figure(13.0, max(7.0, 1.0 + 0.19 * len(rows)))
    (radius, gradient), (decay, units) = figure.subplots(2, 2)
    for row, colour in zip(rows, shades(len(rows)), strict=True):
        steps = range(1, len(row["spectral_radius"]) + 1)
        line = {"color": colour, "linewidth": 1.6, "marker": "o" if len(steps) < 15 else "", "markersize": 3.5}
        radius.plot(steps, row["spectral_radius"], label=row["layer"], **line)
        gradient.plot(steps, _positive(row["state_gradient"]), **line)
        decay.plot(steps, _positive(row["decay_measured"]), **line)
    # layers with the same leak share one dashed line
    for predicted in {tuple(row["decay_predicted"]) for row in rows}:
        decay.plot(range(1, len(predicted) + 1), predicted, color=INK, linestyle="--", linewidth=1.4)
    radius.axhline(1.0, color=GREY, linestyle=":", linewidth=1.4)
    gradient.set_yscale("log")
    decay.set_yscale("log")
    for axes in (radius, gradient, decay):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    places = range(len(rows))
    units.barh(places, [row["dead"] for row in rows], color=INK, label="never fire")
    saturated = [row["saturated"] for row in rows]
    units.barh(
        places,
        saturated,
        left=[1 - share for share in saturated],  # drawn from the right side
        color=VERMILLION,
        label="fire in 95 % of the steps or more",
    )
    units.plot([row["firing_rate"] for row in rows], places, "|", color=BLUE, markersize=7, label="firing rate")
    units.set(yticks=places, xlim=(0, 1))
    units.set_yticklabels(names, fontsize=7)
    units.invert_yaxis()
    tidy(radius, title, "step of the neuron", "spectral radius of dV_t / dV_(t-1)")
    tidy(gradient, "", "step of the neuron", "|dL/dV_t|")
    tidy(decay, "", "steps", "rms dV_t / dV_0   (dashed: the leak alone)")
    tidy(units, "", "share of neurons", "", grid="x")
    units.tick_params(axis="y", labelsize=7)
    units.legend(fontsize=8, frameon=False)
    layer_legend(figure, radius)
    return figure


def eprop_figure(rows: Sequence[Row], title: str = "") -> Figure:
    """Draw the cosine between the gradients of e-prop and BPTT. `rows` come from `eprop_rows`."""
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    figure = new_figure(8.5, max(4.2, 1.0 + 0.24 * len(layers)))
    axes = figure.subplots()
    for rule, colour, marker in zip(rules, (INK, BLUE, VERMILLION), "osd", strict=True):
        cosines = {row["layer"]: row["cosine"] for row in rows if row["rule"] == rule}
        axes.plot(
            [cosines[name] for name in layers], range(len(layers)), marker, color=colour, markersize=5, label=rule
        )
    axes.axvline(1.0, color=GREY, linestyle=":", linewidth=1.4)
    axes.set_yticks(range(len(layers)), layers)
    axes.invert_yaxis()
    tidy(axes, title, "cosine to the gradient of backpropagation through time", "", grid="x")
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def _positive(values: Sequence[float]) -> list[float]:
    """Return values for a logarithmic axis; 0 becomes a gap (the loss does not depend on the last state)."""
    return [value if value > 0 else math.nan for value in values]


def shades(n: int) -> list[tuple[float, ...]]:
    """Return n colours from dark (layers at the input) to light (at the output)."""
    return [colormaps["viridis"](0.92 * i / max(n - 1, 1)) for i in range(n)]


def layer_legend(figure: Figure, axes: Axes) -> None:
    """Add a legend of the layers from input to output beside the figure."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=8, frameon=False)
