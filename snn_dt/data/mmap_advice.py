"""Memory-map advice for datasets that do not fit into memory."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

CGROUPS = Path("/sys/fs/cgroup")


def read_at_random(*arrays: NDArray[Any]) -> None:
    """Disable read-ahead for memory-mapped arrays that together need more than half of the available memory.

    For each missing page the kernel also reads its neighbours, up to megabytes. A dataset that fits is soon in memory
    this way. A larger one evicts its own pages again, so that a window of some kB costs a hundred times its size
    (docs/scale.md).
    """
    mapped: list[Any] = [array for array in arrays if getattr(array, "_mmap", None) is not None]
    # Not every system offers the advice.
    if hasattr(mmap, "MADV_RANDOM") and 2 * sum(array.nbytes for array in mapped) > available_memory():
        for array in mapped:
            array._mmap.madvise(mmap.MADV_RANDOM)


def available_memory() -> float:
    """Return the memory in bytes that this process may use: the free memory, or the limit of its control group."""
    found = [1024 * int(line.split()[1]) for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable:")]
    # A line is `hierarchy:controllers:path`. Version 2 of control groups has no controllers.
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            folder, name = CGROUPS / "memory", "memory.limit_in_bytes"
        elif controllers == "":
            folder, name = CGROUPS, "memory.max"
        else:
            continue
        group = folder / path.strip("/")
        # The limit of every group above applies too.
        for ancestor in (group, *group.parents):
            found += [int(limit) for limit in _lines(ancestor / name) if limit.isdigit()]
            if ancestor == folder:
                break
    return min(found, default=float("inf"))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
