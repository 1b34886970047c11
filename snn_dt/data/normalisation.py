"""Mean and scale of observation columns, and the number type that they need.

Shapes: `d` columns. The *size* of a column is its largest absolute value, its *spread* the standard deviation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.columns import RunningMoments

MIN_SPREAD = 1e-15
"""Spread below which a column counts as constant: the rounding error of float64 numbers around 1."""

MAX_ROUNDING = 1e-3
"""Largest rounding error of float32 as a fraction of the spread. Above it a column needs float64."""


def resolution(dtype: np.dtype[Any]) -> float:
    """Return the relative distance of neighbouring numbers of a float type; 0 for integers, which are exact."""
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


def is_wide(dtype: np.dtype[Any]) -> bool:
    """Return whether converting this type to float32 may lose digits."""
    return dtype.itemsize > 4 or (dtype.kind in "iu" and dtype.itemsize == 4)


def needs_float64(moments: RunningMoments) -> NDArray[np.bool_]:
    """Return the columns [d] whose spread float32 cannot hold (example: 5,000,000 plus or minus 0.2)."""
    std, size = moments.std, moments.size
    # A spread that float64 itself cannot resolve is rounding noise.
    varies = std > np.maximum(resolution(np.dtype(np.float64)) / 4 * size, MIN_SPREAD)
    lost: NDArray[np.bool_] = varies & (resolution(np.dtype(np.float32)) * size > MAX_ROUNDING * std)
    return lost


def scales(
    moments: RunningMoments, source: np.dtype[Any], stored: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Return (mean [d], standard deviation [d], notes) in the type `stored`; `source` is the type of the file.

    The deviation of a constant column is set to 1. Then its normalised value is 0, and other values in a rollout stay
    moderate. Whether a column is constant depends on its size and on the resolution of its type, not on an absolute
    bound, since small numbers may be in SI units.
    """
    std, size, notes = moments.std, moments.size, []
    step = resolution(source) * size
    # A column that alternates between two neighbouring numbers of its type has a spread of step / 4 or more.
    constant = std <= np.maximum(step / 4, MIN_SPREAD)
    if (doubtful := constant & (std > 0)).any():
        notes.append(
            f"observation column {_first(doubtful)} taken as constant: its spread of {_of(std, doubtful)} beside "
            f"values of {_of(size, doubtful)} is what rounding leaves"
        )
    # A spread of a few steps: the type is too coarse for the column.
    if (coarse := ~constant & (std < 4 * step)).any():
        notes.append(
            f"observation column {_first(coarse)} holds few different values: {source} has steps of "
            f"{_of(step, coarse)} at values of {_of(size, coarse)}, and the spread is {_of(std, coarse)}; store it as "
            "float64, or less its mean"
        )
    if stored == np.float64 and (lost := needs_float64(moments)).any():
        notes.append(
            f"observations are kept in 64 bits: float32 cannot hold the spread of {_of(std, lost)} of column "
            f"{_first(lost)} beside values of {_of(size, lost)}"
        )
    # Dividing a constant column by 1 keeps it at 0 after subtracting the mean.
    return moments.mean.astype(stored), np.where(constant, 1.0, std).astype(stored), notes


def _first(chosen: NDArray[np.bool_]) -> str:
    more = int(chosen.sum()) - 1
    return f"{int(chosen.argmax())}" + (f" (and {more} more)" if more else "")


def _of(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> str:
    return f"{values[int(chosen.argmax())]:.3g}"
