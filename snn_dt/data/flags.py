"""Checks of flags and counts in files.

Shapes: `T` steps of an episode.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.errors import DataError


def as_flags(values: Any, name: str, where: str) -> NDArray[np.bool_]:
    """Return flags [T] or [T, 1] as booleans [T]. Values other than booleans, 0 and 1 raise `DataError`."""
    flags = np.asarray(values)
    if flags.dtype.kind not in "biuf" or flags.size != len(np.atleast_1d(flags)):
        raise DataError(
            f"{where} has {name} of type {flags.dtype} and shape {list(flags.shape)}: expected a boolean, 0 or 1 for "
            "each step; repair it"
        )
    # [T, 1] -> [T]
    flags = flags.reshape(-1)
    wrong = np.flatnonzero((flags != 0) & (flags != 1))  # NaN is neither
    if len(wrong):
        raise DataError(
            f"{where} has {name} of {flags[wrong[0]]} at step {wrong[0]} ({len(wrong)} such values): expected a "
            "boolean, 0 or 1 for each step; repair it"
        )
    return flags.astype(np.bool_)


def ending(terminations: Any, truncations: Any, steps: int, where: str) -> tuple[bool, bool]:
    """Return the flags (terminated, truncated) of the last of an episode's `steps` steps.

    Raises:
        DataError: they are no flags, not `steps` of them, or one is set before the last step.
    """
    ends = []
    for name, values in (("terminations", terminations), ("truncations", truncations)):
        flags = as_flags(values, name, where)
        if len(flags) != steps or steps == 0:
            raise DataError(f"{where} has {len(flags)} {name} for {steps} rewards: expected one for each; repair it")
        # A flag before the last step means that the file joins several episodes.
        if flags[:-1].any():
            step = int(flags.argmax())
            raise DataError(
                f"{where} has {name} set at step {step} of 0 to {steps - 1} ({int(flags[:-1].sum())} before the last "
                "step): expected an episode to go on until its last step; split it there, or clear the flags if the "
                "environment went on"
            )
        ends.append(bool(flags[-1]))
    return ends[0], ends[1]


def whole_number(value: Any, name: str, where: str) -> int:
    """Return a count from a metadata file, or raise `DataError` for any other value such as 4.7, true or "5"."""
    # bool is a subclass of int.
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        found = f"{value!r:.60}" if not isinstance(value, int) or isinstance(value, bool) else "a negative number"
        raise DataError(
            f"{where}: expected {name} to be a whole number of at least 0, found {found}; correct it, or download or "
            "copy the dataset again"
        )
    return value
