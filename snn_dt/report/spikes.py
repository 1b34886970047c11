"""Figures of spikes and gates, as matplotlib Figures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from snn_dt.report.style import BLUE, CYCLE, GREY, INK, VERMILLION, new_figure, tidy
from snn_dt.snn.probe import DEAD, layer_flag

MAX_NEURONS = 64


def firing_rates(per_layer: Mapping[str, float], mean: float | None = None) -> Figure:
    """Draw the firing rate of each layer in spikes per neuron and simulation step. The first layer is on top.

    A layer is flagged as dead below 1e-3 and as saturated above 0.8. Both pass on almost no information. `mean` is the
    rate over all neurons. It differs from the mean over layers because layers differ in size.
    """
    if not per_layer:
        raise ValueError("expected the firing rate of at least one layer, found none: the model has no spikes")
    names, rates = list(per_layer), np.array([*per_layer.values()], dtype=float)
    figure = new_figure(7.0, 1.2 + 0.28 * len(names))
    axes = figure.add_subplot()
    if mean is not None:
        axes.axvline(mean, color=GREY, linestyle="--", linewidth=1.2, zorder=0.9)
        axes.annotate(f"mean {mean:.3f}", (mean, -0.6), (4, 0), textcoords="offset points", fontsize=9, color=GREY)
    for i, rate in enumerate(rates):
        flag = layer_flag(rate)
        axes.barh(i, rate, color=VERMILLION if flag else BLUE, height=0.7)
        axes.annotate(
            f"{rate:.3f}" if rate >= DEAD or rate == 0 else f"{rate:.0e}", (rate, i), (4, 0), va="center", fontsize=9,
            textcoords="offset points", bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
        )  # fmt: skip
        if flag:
            axes.annotate(
                flag, (rate, i), (38, 0), textcoords="offset points", va="center", fontsize=9, fontweight="bold",
                color=VERMILLION, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
            )  # fmt: skip
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -1.1), xlim=(0, max(1.35 * rates.max(), 0.05)))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(1.0, axes.get_xlim()[1])])
    axes.set_yticklabels(names)
    tidy(axes, "firing rate of each layer", "spikes per neuron and simulation step", grid="x")
    return figure


def routing_gates(gates: Mapping[str, ArrayLike]) -> Figure:
    """Draw the gates of dendritic routing over decisions, with one panel per layer and one line per head.

    `gates` holds `[decisions, H]` in [0, 1] by layer. A constant gate routes nothing.
    """
    if not gates:
        raise ValueError("expected the gates of at least one layer, found none: the model has no routing")
    figure = new_figure(7.0, 0.6 + 1.9 * len(gates))
    panels = figure.subplots(len(gates), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, values) in zip(panels, gates.items(), strict=True):
        alpha = np.asarray(values, dtype=float)
        # [decisions, H] -> H lines
        for head, line in enumerate(alpha.T):
            label = f"head {head + 1}: {line.mean():.2f} ± {line.std():.2f}"
            axes.plot(line, color=CYCLE[head % len(CYCLE)], linewidth=1.4, label=label)
        axes.set_ylim(0, 1)
        tidy(axes, name, "", "gate")
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    panels[-1].set_xlabel("decision")
    return figure


def spike_raster(rasters: Mapping[str, ArrayLike], sim_steps: int = 1, xlabel: str = "decision") -> Figure:
    """Draw the spikes of each layer over time, with one panel per layer and one line per neuron.

    Args:
        rasters: `[time, neurons]` by layer, spikes or rates in [0, 1]. At most 64 evenly spread neurons are drawn.
        sim_steps: time steps per unit of the horizontal axis.
        xlabel: the unit of the horizontal axis.
    """
    if not rasters:
        raise ValueError("expected the spikes of at least one layer, found none: the model has no spikes")
    columns = 1 if len(rasters) <= 4 else 2
    lines = math.ceil(len(rasters) / columns)
    figure = new_figure(4.8 + 3.2 * columns, 0.6 + 1.1 * lines)
    ink = LinearSegmentedColormap.from_list("ink", ["white", BLUE])
    panels = figure.subplots(lines, columns, sharex=True, squeeze=False)
    # Column by column, so consecutive layers are below each other.
    for axes, (name, raster) in zip(panels.T.flat, rasters.items(), strict=False):
        train = np.asarray(raster, dtype=float)
        time, neurons = train.shape
        shown = np.unique(np.linspace(0, neurons - 1, min(neurons, MAX_NEURONS)).round().astype(int))
        axes.imshow(
            # [time, neurons] -> [neurons, time]
            train[:, shown].T, aspect="auto", interpolation="nearest", cmap=ink, vmin=0, vmax=1,
            extent=(0, time / sim_steps, len(shown), 0),
        )  # fmt: skip
        some = "" if len(shown) == neurons else f"{len(shown)} of "
        flag = layer_flag(float(train.mean()))
        note = f"{some}{neurons} neurons, rate {train.mean():.3f}" + (f", {flag}" if flag else "")
        tidy(axes, grid=None)
        axes.set_title(name, loc="left", fontsize=9, color=INK, fontweight="bold", pad=3)
        axes.set_title(note, loc="right", fontsize=8, color=VERMILLION if flag else GREY, pad=3)
        axes.set_yticks([])
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    for axes in panels.T.flat[len(rasters) :]:
        axes.set_axis_off()
    figure.supxlabel(xlabel, fontsize=11, color=INK)
    return figure
