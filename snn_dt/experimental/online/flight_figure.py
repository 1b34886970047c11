"""Figures of flights: the path in three dimensions and the drone at its end.

A flight is an array [T, 17] of states of `snn_dt.experimental.online.crazyflie_model`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from snn_dt.experimental.online import crazyflie_model as model
from snn_dt.report.style import BLUE, CYCLE, GREY, INK, PALE, VERMILLION, new_figure

ARM_LENGTH = 0.12
"""Length of a drawn arm in m. It is four times the real one, to be visible."""


def flight_figure(flights: Mapping[str, NDArray[np.float64]], limit: float) -> Figure:
    """Draw named flights in one box of +-`limit` m; a cross marks the start of each."""
    figure, axes = _empty_box(limit)
    for colour, (name, flight) in zip(CYCLE * len(flights), flights.items(), strict=False):
        x, y, z = flight[:, model.POSITION].T
        axes.plot(x, y, z, color=colour, linewidth=1.6, label=name)
        axes.plot(x[:1], y[:1], z[:1], "x", color=colour, markersize=7)
        axes.plot(x, y, np.full_like(z, -limit), color=colour, linewidth=0.8, alpha=0.3)  # shadow on the floor
    if len(flights) > 1:
        figure.legend(loc="upper center", ncols=3, fontsize=9, frameon=False)
    return figure


class FlightPicture:
    """Frames of a video of a running flight; the axes are made once."""

    def __init__(self, limit: float) -> None:
        self.figure, axes = _empty_box(limit)
        self.canvas: Any = FigureCanvasAgg(self.figure)  # draws without a display
        self.limit = limit
        self.path = axes.plot([], [], [], color=BLUE, linewidth=1.4)[0]
        self.shadow = axes.plot([], [], [], color=GREY, linewidth=0.8, alpha=0.4)[0]
        self.arms = [axes.plot([], [], [], color=INK, linewidth=2.5)[0] for _ in range(2)]
        self.rotors = axes.plot([], [], [], "o", color=VERMILLION, markersize=4)[0]
        self.clock = axes.text2D(0.03, 0.95, "", transform=axes.transAxes, fontsize=11, color=INK)

    def frame(self, flight: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Return the picture [H, W, 3] of a flight [T, 17] at its last step."""
        x, y, z = flight[:, model.POSITION].T
        self.path.set_data_3d(x, y, z)
        self.shadow.set_data_3d(x, y, np.full_like(z, -self.limit))
        attitude = model.rotation(flight[-1, model.ATTITUDE]).reshape(3, 3)  # [9] -> [3, 3]
        # rotor positions, scaled, [4, 3]
        corners = np.column_stack([model.ROTORS, np.zeros(4)]) * (ARM_LENGTH / np.hypot(*model.ROTORS[0]))
        tips = corners @ attitude.T + flight[-1, model.POSITION]  # world frame
        for arm, ends in zip(self.arms, ([0, 2], [1, 3]), strict=True):  # opposite rotors share an arm
            arm.set_data_3d(*tips[ends].T)
        self.rotors.set_data_3d(*tips.T)
        self.clock.set_text(f"{(len(flight) - 1) * model.DT:.2f} s")
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()


def _empty_box(limit: float) -> tuple[Figure, Any]:
    """Return figure and axes of an empty box with the target at its centre."""
    figure = new_figure(4.8, 4.8)
    figure.set_layout_engine("none")  # it would cut off the z label
    axes: Any = figure.add_axes((0.0, 0.02, 0.92, 0.96), projection="3d")
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit), box_aspect=(1, 1, 1))
    axes.set(xlabel="x, m", ylabel="y, m", zlabel="z, m")
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(color=PALE)
        axis.set_ticks([-limit, 0, limit])
    axes.tick_params(labelsize=9, colors=GREY)
    axes.plot([0], [0], [0], marker="+", markersize=12, color=GREY)
    return figure, axes
