"""Convert columns of Arrow tables to arrays of numbers. Missing values and lists of unequal length are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.spaces import LeafPath


def descend(array: Any, leaf: LeafPath) -> Any:
    """Return the part of a nested column at a path; `ValueError` if a value above it is missing."""
    for key in leaf:
        _no_nulls(array, f"the column above {key!r}")
        array = array.field(str(key))
    return array


def numbers(array: Any, name: str) -> NDArray[Any]:
    """Return an Arrow array of numbers as [n], and one of (nested) lists of numbers as [n, d].

    Raises:
        ValueError: a value is missing or no number, or lists have different lengths.
    """
    import pyarrow.compute
    import pyarrow.types

    rows, is_list = len(array), False
    # Remove one level of lists after another until numbers are left.
    while pyarrow.types.is_nested(array.type):
        if not hasattr(array.type, "value_type") or pyarrow.types.is_map(array.type):
            raise ValueError(f"{name} of type {array.type} where lists of numbers were expected")
        _no_nulls(array, name)
        # Lists of different lengths would flatten to a wrong [n, d] silently.
        lengths = pyarrow.compute.list_value_length(array).to_numpy(zero_copy_only=False)
        if len(np.unique(lengths)) > 1:
            row = int(np.flatnonzero(lengths != lengths[0])[0])
            raise ValueError(
                f"{name} are lists of different lengths: {lengths[0]} in the first, {lengths[row]} in number {row}"
            )
        array, is_list = array.flatten(), True  # removes one level of lists
    _no_nulls(array, name)
    if not (pyarrow.types.is_integer(array.type) or pyarrow.types.is_floating(array.type)) and array.type != "bool":
        raise ValueError(f"{name} of type {array.type} where numbers were expected")
    values = np.asarray(array.to_numpy(zero_copy_only=False))
    return values.reshape(rows, -1) if is_list and rows else values  # [n * d] -> [n, d]


def _no_nulls(array: Any, name: str) -> None:
    if array.null_count:
        raise ValueError(f"{name} with {array.null_count} missing values (null)")
