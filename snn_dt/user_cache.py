"""The folder in which the package keeps what it can make again: datasets as flat arrays, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Return `$SNN_DT_CACHE`, in which `~` is the home folder, else `~/.cache/snn_dt`."""
    return Path(os.environ.get("SNN_DT_CACHE") or "~/.cache/snn_dt").expanduser()
