"""From numbers to an action that a Box space holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def to_space(values: NDArray[Any], space: Any) -> NDArray[Any]:
    """Return `values [N, ...]` inside the bounds of a Box, in its type; integers are the nearest ones.

    A bound is met exactly, where `values` are too coarse to: 2^63 - 1 is no float.
    """
    if not np.issubdtype(space.dtype, np.integer):
        return np.asarray(np.clip(values, space.low, space.high), dtype=space.dtype)
    whole = np.rint(values.astype(np.float64))
    above, below = whole >= space.high.astype(np.float64), whole <= space.low.astype(np.float64)
    inside = np.where(above | below, 0.0, whole).astype(space.dtype)
    return np.asarray(np.where(above, space.high, np.where(below, space.low, inside)), dtype=space.dtype)
