"""Folders that are filled under a hidden name and renamed when they are complete: no reader sees half of one."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED = 7 * 24 * 3600.0
"""Seconds without a write after which a folder is taken for one whose process was killed.

Several machines may write into one place, where process ids and locks say nothing: only age does.
"""


@contextmanager
def unfinished_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` to be filled and renamed; if it has not been when the block ends, it is removed.

    So is what killed processes have left under the same `prefix`. Raises `OSError` if `parent` cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.glob(f"{prefix}*"):
        if _is_abandoned(folder):
            shutil.rmtree(folder, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        unfinished.chmod(0o755)  # mkdtemp makes it private; what it becomes may be shared
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_abandoned(folder: Path) -> bool:
    with suppress(OSError):  # its process has just renamed or removed it
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) < time.time() - ABANDONED
    return False
