"""Common style of all figures. It is set on each axes without pyplot, a display or global settings."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The palette of Okabe and Ito, which is safe for the common kinds of colour blindness.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
INK, GREY, PALE = "#222222", "#6E6E6E", "#E3E6EA"
MARKERS = "osD^vPX*<>"
DASHES = ("-", "--", "-.", ":")

VARIANTS = {
    "dense": (INK, "s"),
    "bc": (GREY, "v"),
    "bc10": (ORANGE, "^"),
    "snn_dt": (BLUE, "o"),
    "snn_dt-full": (VERMILLION, "D"),
    "snn_dt_stream": (GREEN, "P"),
    "dsformer_pssa": (PURPLE, "X"),
    "dsformer_tssa": (SKY, "*"),
}
"""Colour and marker of a variant in every figure. The markers differ, so that figures can be read in grey."""


def variant_styles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return `color` and `marker` of each variant.

    A variant that is not in `VARIANTS` has the colour of the longest name there that it begins with (`snn_dt-top10`:
    snn_dt), and the next marker that no other one of this colour has. A name of no family is grey.
    """
    styles: dict[str, dict[str, str]] = {}
    for name in sorted(names, key=lambda name: name not in VARIANTS):  # known ones choose first
        family = max((known for known in VARIANTS if name.startswith(known)), key=len, default="bc")
        colour, marker = VARIANTS[family]
        taken = {style["marker"] for style in styles.values() if style["color"] == colour}
        free = [mark for mark in (marker, *MARKERS) if mark not in taken] or [marker]
        styles[name] = {"color": colour, "marker": free[0]}
    return styles


def new_figure(width: float = 6.4, height: float = 4.2) -> Figure:
    """Return an empty white figure. Sizes are in inches."""
    return Figure(figsize=(width, height), dpi=100, layout="constrained", facecolor="white")


def tidy(
    axes: Axes,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "",
    grid: Literal["both", "x", "y"] | None = "both",
) -> None:
    """Set the title (left), the labels, a pale grid and two spines."""
    axes.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold")
    axes.set_xlabel(xlabel, fontsize=11, color=INK)
    axes.set_ylabel(ylabel, fontsize=11, color=INK)
    axes.tick_params(labelsize=10, colors=GREY, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(True, axis=grid, color=PALE, linewidth=0.8)


def identity(axes: Axes, low: float, high: float) -> None:
    """Draw a thin line y = x, with its name; the limits of both axes stay."""
    xlim, ylim = axes.get_xlim(), axes.get_ylim()
    axes.plot([low, high], [low, high], color=GREY, linestyle="--", linewidth=0.8, zorder=0.5)
    at = low + 0.75 * (min(xlim[1], ylim[1]) - low)
    axes.annotate("y = x", (at, at), (5, -5), textcoords="offset points", va="top", fontsize=9, color=GREY)
    axes.set(xlim=xlim, ylim=ylim)


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Return the figure as a PNG of at most 256 colours, which has a third of the size."""
    from PIL import Image

    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    # Without dithering, which would add noise to plain areas and enlarge the file.
    few = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()
