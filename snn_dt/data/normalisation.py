"""What a column of observations is normalised with, and which number type holds it.

Shapes: `d` columns. A column's *size* is the largest absolute value in it, its *spread* the standard deviation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.columns import RunningMoments

SMALLEST = 1e-15
"""Spread below which a column counts as constant: what computing with numbers around 1 leaves of a zero."""

LOST = 1e-3
"""Share of the spread that rounding to float32 may change before a column needs float64."""


def resolution(dtype: np.dtype[Any]) -> float:
    """Return the relative distance of neighbouring numbers of a type; 0 for whole numbers, which are exact."""
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


def is_wide(dtype: np.dtype[Any]) -> bool:
    """Tell whether float32 may lose what numbers of this type hold."""
    return dtype.itemsize > 4 or (dtype.kind in "iu" and dtype.itemsize == 4)


def needs_float64(moments: RunningMoments) -> NDArray[np.bool_]:
    """Tell of which columns [d] rounding to float32 would change the spread, as of 5,000,000 give or take 0.2."""
    std, size = moments.std, moments.size
    varies = std > np.maximum(resolution(np.dtype(np.float64)) / 4 * size, SMALLEST)
    lost: NDArray[np.bool_] = varies & (resolution(np.dtype(np.float32)) * size > LOST * std)
    return lost


def scales(
    moments: RunningMoments, source: np.dtype[Any], stored: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[Any], list[str]]:
    """Return (mean [d], deviation [d], what there is to say) in the type `stored`, of data that came as `source`.

    The deviation of a constant column is 1, so that it is 0 once normalised and a rollout that leaves the constant is
    not blown up. A column is constant by its own size and the resolution of its numbers, not by an absolute bound:
    what is small may be in SI units.
    """
    std, size, notes = moments.std, moments.size, []
    step = resolution(source) * size
    constant = std <= np.maximum(step / 4, SMALLEST)
    if (doubtful := constant & (std > 0)).any():
        notes.append(
            f"observation column {_first(doubtful)} taken as constant: its spread of {_of(std, doubtful)} beside "
            f"values of {_of(size, doubtful)} is what rounding leaves"
        )
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
    return moments.mean.astype(stored), np.where(constant, 1.0, std).astype(stored), notes


def _first(chosen: NDArray[np.bool_]) -> str:
    more = int(chosen.sum()) - 1
    return f"{int(chosen.argmax())}" + (f" (and {more} more)" if more else "")


def _of(values: NDArray[np.float64], chosen: NDArray[np.bool_]) -> str:
    return f"{values[int(chosen.argmax())]:.3g}"
