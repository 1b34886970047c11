"""Figures of `snn-dt analyse`: plain rows in, a matplotlib Figure out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from snn_dt.report.style import new_figure, tidy

Row = Mapping[str, Any]


def gradient_figure(rows: Sequence[Row], title: str = "") -> Figure:
    """Draw size and direction of each layer's gradient over the slope; rows of `analysis.gradients.gradient_rows`."""
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


def shades(n: int) -> list[tuple[float, ...]]:
    """Return a colour for each of n layers, dark at the input, light at the output."""
    return [colormaps["viridis"](0.92 * i / max(n - 1, 1)) for i in range(n)]


def layer_legend(figure: Figure, axes: Axes) -> None:
    """Name the layers of `axes` beside the figure, input side first."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", fontsize=8, frameon=False)
