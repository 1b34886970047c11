"""The folder in which the package keeps what it can make again: datasets as flat arrays, compiled kernels."""

from __future__ import annotations

import os
from pathlib import Path

from snn_dt import io


def cache_root() -> Path:
    """Return `$SNN_DT_CACHE`, in which `~` is the home folder, else `~/.cache/snn_dt`.

    Raises:
        ConfigError: `$SNN_DT_CACHE` begins with the `~name` of no user.
    """
    return io.expand(os.environ.get("SNN_DT_CACHE") or io.home() / ".cache" / "snn_dt")
