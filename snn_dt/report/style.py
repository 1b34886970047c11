"""Common style of all figures. It is set on each axes without pyplot, a display or global settings."""

from __future__ import annotations

import io
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The palette of Okabe and Ito, which is safe for the common kinds of colour blindness.
BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
INK, GREY, PALE = "#222222", "#6E6E6E", "#E3E6EA"


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


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Return the figure as a PNG of at most 256 colours, which has a third of the size."""
    from PIL import Image

    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    # Without dithering, which would add noise to plain areas and enlarge the file.
    few = Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, "png", optimize=True)
    return buffer.getvalue()
