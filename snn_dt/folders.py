"""Atomic creation of folders. Use it through `snn_dt.io`.

A folder is filled under a hidden name and renamed when it is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ABANDONED_SECONDS = 7 * 24 * 3600.0
"""Seconds without a write after which an unfinished folder is removed.

Several machines may write to one place. Process ids and locks of other machines tell nothing, so only age counts. A
folder that this machine has made since its last boot has a lock, which the system frees when its process ends.
"""


@contextmanager
def unfinished_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder in `parent` for the block to fill and rename; remove it if it was not renamed.

    Folders that killed processes have left under the same `prefix` are removed first. Raises `OSError` if `parent`
    cannot be written.
    """
    parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(parent, prefix)
    unfinished = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = _lock(unfinished)
    try:
        unfinished.chmod(0o755)  # mkdtemp makes it private, but the finished folder may be shared
        if lock is not None and (boot := _boot_id()):
            # The name says that there is a lock, so it is given only after locking.
            unfinished = unfinished.rename(parent / f"{prefix}{boot}-{unfinished.name.removeprefix(prefix)}")
        yield unfinished
    finally:
        # After a successful rename there is nothing to remove.
        shutil.rmtree(unfinished, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def clear_abandoned(parent: Path, prefix: str) -> None:
    """Remove the unfinished folders of killed processes from `parent`."""
    with suppress(OSError):
        for folder in parent.glob(f"{prefix}*"):
            if _is_abandoned(folder, prefix):
                shutil.rmtree(folder, ignore_errors=True)


def _is_abandoned(folder: Path, prefix: str) -> bool:
    boot = _boot_id()
    # Made on this machine since its last boot: the lock decides, not the age.
    if boot and folder.name.startswith(f"{prefix}{boot}-") and (lock := _lock(folder)) is not None:
        os.close(lock)
        return True
    with suppress(OSError):  # its process may just rename or remove it
        return max(path.stat().st_mtime for path in (folder, *folder.rglob("*"))) < time.time() - ABANDONED_SECONDS
    return False


def _lock(folder: Path) -> int | None:
    """Lock a folder for this process and return the handle, or None if it is locked or locking is not supported."""
    with suppress(ImportError, OSError):
        import fcntl

        # A lock on the folder itself needs no extra file.
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except OSError:
            os.close(handle)
    return None


def _boot_id() -> str:
    """Return the id of this machine's current boot, shared by its containers; empty if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
    except OSError:
        return ""
