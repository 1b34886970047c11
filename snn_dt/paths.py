"""Names and owners of files, and the places of home and cache. Use them through `snn_dt.io`."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import tempfile
from pathlib import Path

from snn_dt.errors import ConfigError, SnnDtError

MAX_NAME = 255
"""Largest length of a file name in bytes on nearly every file system."""
MAX_PATH = 4095
"""Largest length of a path in bytes on Linux."""


def check_name(path: str | Path, error: type[SnnDtError] = ConfigError, what: str = "a path") -> Path:
    """Return `path` with `~` expanded, if a file can have that name.

    Raises:
        SnnDtError: of the kind `error`; the name is empty, or no file system takes it.
    """
    # Checked as text first: `Path("")` would become the current folder.
    text = os.fspath(path)
    if not text:
        raise error(f"expected {what}, found an empty one (an unset variable?); name one")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise error(f"expected {what} that can be written as bytes, found {_short(text)}; rename it") from None
    if b"\0" in encoded:
        raise error(f"expected {what} without NUL, found {_short(text)}; rename it")
    if len(encoded) > MAX_PATH or any(len(part) > MAX_NAME for part in encoded.split(b"/")):
        raise error(f"expected {what} of names of at most {MAX_NAME} bytes, found {_short(text)}; shorten it")
    return expand(path, error)


def expand(path: str | Path, error: type[SnnDtError] = ConfigError) -> Path:
    """Return `path` with a leading `~` or `~user` replaced by the home folder.

    Raises:
        SnnDtError: of the kind `error`; there is no such user.
    """
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:
        # No home folder is known, but one is needed; `~user` has no such substitute.
        if path.parts[0] == "~":
            return Path(home(), *path.parts[1:])
    raise error(f"expected a path, found {_short(str(path))}, and no user {path.parts[0][1:]!r}; write the folder out")


def home() -> Path:
    """Return the user's home folder. A user without one (as in a container) gets a private temporary folder."""
    try:
        return Path.home()
    except RuntimeError:
        return private_folder()


def cache_root() -> Path:
    """Return the folder for files that can be made again: `$SNN_DT_CACHE`, else `~/.cache/snn_dt`.

    It holds datasets as flat arrays and compiled kernels.

    Raises:
        ConfigError: `$SNN_DT_CACHE` begins with `~name`, and there is no such user.
    """
    return expand(os.environ.get("SNN_DT_CACHE") or home() / ".cache" / "snn_dt")


@functools.cache
def private_folder() -> Path:
    """Return a folder for temporary files that only this user can open: `snn_dt-<user id>`.

    If another user has taken that name, the result is a new folder that only this process knows.
    """
    folder = Path(tempfile.gettempdir()) / f"snn_dt-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    with contextlib.suppress(OSError):  # the name is a file, or the parent cannot be written
        folder.mkdir(mode=0o700, exist_ok=True)
    # The temporary folder is shared: the name may be a trap that another user has set.
    if folder.is_dir() and only_ours(folder) and not folder.is_symlink():
        return folder
    return Path(tempfile.mkdtemp(prefix="snn_dt-"))


def only_ours(path: str | Path) -> bool:
    """Return whether this user or root owns the file at `path` and nobody else can write it."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    return is_only_ours(found)


def is_only_ours(found: os.stat_result) -> bool:
    """Return the same for a result of `os.stat` or `os.fstat`."""
    if not hasattr(os, "geteuid"):  # on Windows, user folders are private
        return True
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")
