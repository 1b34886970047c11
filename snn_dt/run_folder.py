"""The folder of a run: its lock, and the files that a killed process leaves."""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from snn_dt.errors import CheckpointError
from snn_dt.io import writable_folder


def is_first_process() -> bool:
    """Return whether this process writes: the only one, or rank 0 of the processes that torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1")) == 1 or os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def lock_run_folder(run_dir: Path, resume: bool = False) -> Iterator[None]:
    """Keep other processes out of a run folder while the context is open.

    The operating system locks the file `.lock` and frees it when the process ends, however that happens. The folder is
    removed on exit if it is new and empty. Of several processes of one run only the first takes the lock.

    Raises:
        CheckpointError: a new folder already holds a run, cannot be written, or another process works in it.
    """
    if not is_first_process():
        yield
        return
    if not resume:
        _check_new(run_dir)
    writable_folder(run_dir)
    try:
        with _locked(run_dir / ".lock") as exclusive:
            if not resume:
                _check_new(run_dir)  # again, because another process may have begun a run before the lock
            if exclusive:
                remove_leftovers(run_dir)
            yield
    finally:
        if not resume:
            with contextlib.suppress(OSError):  # the folder is not empty, as usual, or the root of a disk
                run_dir.rmdir()


def remove_leftovers(run_dir: Path) -> None:
    """Remove what killed processes have left half-written in a run folder that only this process works in."""
    partial = [path for depth in ("", "*/", "*/*/") for path in run_dir.glob(f"{depth}.*.partial")]
    replaced = [path for path in run_dir.glob("checkpoints/*.old") if (path.with_suffix("") / "config.json").is_file()]
    for path in (*partial, *replaced, *run_dir.glob(".writable-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock file. Yields whether the lock works, because some file systems have no locks."""
    exclusive = True
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CheckpointError(
                f"expected a run folder that no other process works in, found {lock.read() or 'one'} in {path.parent}; "
                "wait for it to end, or choose another --run-dir"
            ) from None
        except OSError:
            exclusive = False  # a file system without locks
        # The process that held the lock removes the file when it ends: this may be the lock of a removed file.
        if not (path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno()))):
            raise CheckpointError(f"expected {path.parent} to be free, found a process that just left; try once more")
        with contextlib.suppress(OSError):  # a full disk, which the run will report
            lock.truncate(0)
            os.write(lock.fileno(), f"process {os.getpid()} of {platform.node()}".encode())
        try:
            yield exclusive
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _check_new(run_dir: Path) -> None:
    if (run_dir / "config.yaml").exists() or (run_dir / "checkpoints").exists():
        raise CheckpointError(
            f"expected a new run folder, found a run at {run_dir}; go on with it (--resume {run_dir}), choose another "
            "--run-dir, or delete it"
        )
