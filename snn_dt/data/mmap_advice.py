"""Arrays that do not fit into memory: the kernel is told that they are read at random."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

CGROUPS = Path("/sys/fs/cgroup")


def read_at_random(*arrays: NDArray[Any]) -> None:
    """Switch read-ahead off for memory-mapped arrays that together need more than half of the memory there is.

    For every page that is missing the kernel reads its neighbours too, up to megabytes of them. That soon fills memory
    with a dataset that fits. One that does not pushes its own pages out again, and every window of some kB costs a
    hundred times its size (docs/scale.md).
    """
    mapped = [array for array in arrays if getattr(array, "_mmap", None) is not None]
    if hasattr(mmap, "MADV_RANDOM") and 2 * sum(array.nbytes for array in mapped) > available_memory():
        for array in mapped:
            array._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]


def available_memory() -> float:
    """Return the bytes this process may still use: what the machine has free, or the limit of its control group."""
    found = [1024 * int(line.split()[1]) for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable:")]
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            folder, name = CGROUPS / "memory", "memory.limit_in_bytes"
        elif controllers == "":
            folder, name = CGROUPS, "memory.max"
        else:
            continue
        group = folder / path.strip("/")
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
