"""Folders that are filled under a hidden name and renamed when they are complete: no reader sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED = 7 * 24 * 3600.0
"""Seconds without a write after which a folder is taken for one whose process was killed.

Several machines may write into one place, where process ids and locks of others say nothing: only age does. Of folders
of this machine, since it was started, the lock tells: the system lets go of it when the process ends, however it does.
"""


@contextmanager
def unfinished_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` to be filled and renamed; if it has not been when the block ends, it is removed.

    So is what killed processes have left under the same `prefix`. Raises `OSError` if `parent` cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(parent, prefix)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = _lock(unfinished)
    try:
        unfinished.chmod(0o755)  # mkdtemp makes it private; what it becomes may be shared
        if lock is not None and (boot := _boot()):  # named so only once it is locked: others go by the name
            unfinished = unfinished.rename(parent / f"{prefix}{boot}-{unfinished.name.removeprefix(prefix)}")
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def clear_abandoned(parent: Path, prefix: str) -> None:
    """Remove what killed processes have left in `parent` under `prefix`."""
    with suppress(OSError):
        for folder in parent.glob(f"{prefix}*"):
            if _is_abandoned(folder, prefix):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path, prefix: str) -> bool:
    boot = _boot()
    if boot and folder.name.startswith(f"{prefix}{boot}-") and (lock := _lock(folder)) is not None:
        os.close(lock)
        return True
    with suppress(OSError):  # its process has just renamed or removed it
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) < time.time() - ABANDONED
    return False


def _lock(folder: Path) -> int | None:
    """Lock a folder for this process and return the handle; None if another one has, or nothing can be locked here."""
    with suppress(ImportError, OSError):
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError:
            os.close(handle)
    return None


def _boot() -> str:
    """Return a name of this machine since it was started, which containers on it share; nothing where it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
    except OSError:
        return ""
