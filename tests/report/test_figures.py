"""Figures draw the numbers they are given, and leave matplotlib's global state alone."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from snn_dt.report import figures, spikes
from snn_dt.report.style import VARIANTS, VERMILLION, png, variant_styles


def row(target, mean, returns=(), interval=None):
    return {"target_return": target, "return_mean": mean, "returns": list(returns), "return_interval": interval}


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_return_vs_target_draws_each_episode_the_means_with_intervals_and_y_equals_x_but_no_line_between_means():
    rows = [row(500.0, 480.0, [460.0, 500.0], [460.0, 500.0]), row(30.0, 40.0, [35.0, 40.0, 45.0], [35.0, 45.0])]
    axes, below = figures.return_vs_target(rows, [-10.0, 20.0, 20.0, 400.0], reference={"random": 22.0}).axes
    dots = np.concatenate([points.get_offsets() for points in axes.collections if len(points.get_offsets()) > 1])
    assert sorted(dots[:, 1]) == [35, 40, 45, 460, 500]
    joined = [line.get_xydata().tolist() for line in axes.lines if line.get_linestyle() != "None"]
    (low, high), _ = axes.get_xlim(), axes.get_ylim()
    assert [[low, low], [high, high]] in joined
    assert low < -10 < 500 < high
    assert not [line for line in joined if [30.0, 40.0] in line]
    assert {"random", "y = x"} <= set(texts(axes.figure))
    assert sum(bar.get_height() for bar in below.patches) == pytest.approx(100)
    assert max(bar.get_height() for bar in below.patches) == pytest.approx(50)
    for shown in (axes, below):
        assert shown.get_ylabel()
    assert below.get_xlabel() == "target return (sum of rewards)"
    (bars,) = [container for container in axes.containers if hasattr(container, "has_yerr")]
    np.testing.assert_allclose([s[:, 1] for s in bars[2][0].get_segments()], [[35.0, 45.0], [460.0, 500.0]])


def test_a_variant_has_one_colour_and_marker_whatever_is_drawn_beside_it():
    names = [*VARIANTS, "snn_dt-budget-10k", "snn_dt-budget-1M", "mine"]
    together = variant_styles(names)
    assert len({(look["color"], look["marker"]) for look in together.values()}) == len(names)
    assert len({look["color"] for name, look in together.items() if name in VARIANTS}) == len(VARIANTS)
    assert len({look["marker"] for name, look in together.items() if name in VARIANTS}) == len(VARIANTS)
    for name in VARIANTS:
        assert variant_styles([name])[name] == together[name] == variant_styles(names[::-1])[name]
    assert together["snn_dt-budget-10k"]["color"] == together["snn_dt"]["color"] != together["mine"]["color"]


def test_equal_data_give_equal_pictures():
    rows = [row(1.0, 2.0, np.linspace(0, 5, 20))]
    assert png(figures.return_vs_target(rows)) == png(figures.return_vs_target(rows))


@pytest.mark.parametrize("value", [0.0, -150.0, 3600.0])
def test_a_single_target_without_spread_can_be_drawn(value):
    axes, _ = figures.return_vs_target([row(value, value, [value])], data_returns=[value]).axes
    low, high = axes.get_xlim()
    assert low < value < high


def test_firing_rates_flag_dead_and_saturated_layers_and_no_others():
    figure = spikes.firing_rates({"a": 0.0, "b": 0.0009, "c": 0.001, "d": 0.8, "e": 0.801, "f": 1.0}, mean=0.4)
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.0, 0.0009, 0.001, 0.8, 0.801, 1.0]
    flagged = Figure().add_subplot().barh(0, 1, color=VERMILLION)[0].get_facecolor()
    assert [bar.get_facecolor() == flagged for bar in bars] == [True, True, False, False, True, True]
    assert [text for text in texts(figure) if text in ("dead", "saturated")] == ["dead"] * 2 + ["saturated"] * 2
    assert "mean 0.400" in texts(figure)


def test_spike_raster_draws_neurons_upright_and_thins_out_only_wide_layers():
    narrow = np.zeros((6, 3), dtype=bool)
    narrow[4, 1] = True
    wide = np.zeros((6, 640))
    wide[:, -1] = 1.0
    figure = spikes.spike_raster({"narrow": narrow, "wide": wide}, sim_steps=2)
    first, second = (axes.images[0] for axes in figure.axes)
    np.testing.assert_array_equal(first.get_array(), narrow.T)
    assert first.get_extent() == [0, 3.0, 3, 0]
    assert second.get_array().shape == (64, 6)
    assert second.get_array()[-1].all()  # the first and the last neuron are among those shown
    assert figure.axes[1].get_title(loc="right") == "64 of 640 neurons, rate 0.002"


def test_every_head_is_a_line_and_its_mean_is_in_the_legend():
    gates = {"a": np.array([[0.2, 0.6], [0.4, 0.6]]), "b": np.full((2, 2), 0.5)}
    figure = spikes.routing_gates(gates)
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]
    assert list(figure.axes[0].lines[0].get_ydata()) == [0.2, 0.4]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["head 1: 0.30 ± 0.10", "head 2: 0.60 ± 0.00"]


@pytest.mark.parametrize("layers", [1, 4, 5, 14])
def test_spike_raster_has_one_panel_a_layer(layers):
    figure = spikes.spike_raster({f"layer {i}": np.eye(8) for i in range(layers)})
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.axison].count("") == 0
    assert len([axes for axes in figure.axes if axes.images]) == layers
    assert png(figure).startswith(b"\x89PNG")


def test_learning_curve_takes_the_newer_of_two_rows_of_a_step_and_draws_only_what_is_recorded():
    rows = [
        {"step": 10, "loss": 1.0},
        {"step": 20, "loss": 9.0},
        {"step": 20, "loss": 0.5},  # after a resume
        {"step": 30, "loss": None},  # not a number when it was recorded
        {"step": 20, "evaluation": [row(5.0, 4.0, interval=[3.0, 4.5]), row(1.0, 2.0)]},
    ]
    assert len(figures.learning_curve(rows).axes) == 1  # one evaluation makes no curve
    rows.append({"step": 30, "evaluation": [row(5.0, 4.5), row(1.0, 1.0)]})
    loss, returns = figures.learning_curve(rows).axes
    assert loss.lines[0].get_xydata().tolist() == [[10, 1.0], [20, 0.5]]
    assert [text.get_text() for text in returns.get_legend().get_texts()] == ["target 5", "target 1"]
    assert returns.lines[0].get_xydata().tolist() == [[20, 4.0], [30, 4.5]]


def test_figures_without_data_are_refused():
    for draw, nothing in (
        (spikes.firing_rates, {}),
        (spikes.spike_raster, {}),
        (spikes.routing_gates, {}),
        (figures.learning_curve, []),
    ):
        with pytest.raises(ValueError, match="found none"):
            draw(nothing)


def test_neither_pyplot_nor_a_global_style_is_touched():
    code = """
import sys, matplotlib
def style():  # to ask for the backend would itself import pyplot
    return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = style()
from snn_dt.report import figures, spikes
from snn_dt.report.style import png
png(spikes.firing_rates({"a": 0.1}))
png(figures.return_vs_target([{"target_return": 1.0, "return_mean": 1.0, "returns": [1.0]}]))
assert "matplotlib.pyplot" not in sys.modules
assert style() == before
"""
    done = subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
