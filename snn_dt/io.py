"""Safe reading and atomic writing of files and folders.

Files may come from anybody, so the readers open only regular files of a bounded size. They raise `OSError` if a file
cannot be opened or is too large, and `ValueError` if its name or content cannot be used. Each message is one short
line. This module also exports the names of `paths.py` (names and places) and `folders.py` (atomic folders).
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

from snn_dt.errors import CheckpointError
from snn_dt.folders import clear_abandoned as clear_abandoned
from snn_dt.folders import unfinished_folder as unfinished_folder
from snn_dt.paths import cache_root as cache_root
from snn_dt.paths import check_name as check_name
from snn_dt.paths import expand as expand
from snn_dt.paths import home as home
from snn_dt.paths import is_only_ours as is_only_ours
from snn_dt.paths import only_ours as only_ours
from snn_dt.paths import private_folder as private_folder

MAX_TEXT_BYTES = 1 << 24
"""Largest text file that is read whole, in bytes: 16 MiB, three hundred times the largest that the package writes."""
MAX_DEPTH = 64
"""Largest nesting depth of JSON and YAML. Recursive code walks through them."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_file(path: str | Path) -> bool:
    """Return whether `path` is a regular file or a link to one. No name makes this raise."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Return whether `path` is a folder or a link to one. No name makes this raise."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def require_file(path: str | Path, most: int | None = None) -> Path:
    """Return `path` if it is a regular file, or a link to one, of at most `most` bytes.

    Use it for libraries that open a file by name. Otherwise prefer `open_file`, which checks the file that it opened.

    Raises:
        OSError: there is no file, or it is a folder, pipe, socket or device.
        ValueError: no file can have that name.
    """
    _check(os.stat(path), path, most)
    return Path(path)


def open_file(path: str | Path, most: int | None = None) -> BinaryIO:
    """Open a regular file, or a link to one, of at most `most` bytes for reading; raises as `require_file`."""
    require_file(path, most)  # opening a device may have an effect
    # O_NONBLOCK and O_NOCTTY: opening has no side effect and does not wait.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)  # O_NONBLOCK: a pipe put there meanwhile does not block
    try:
        _check(os.fstat(descriptor), path, most)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, most: int = MAX_TEXT_BYTES) -> bytes:
    """Return the content of a regular file of at most `most` bytes; raises as `require_file`."""
    with open_file(path, most) as file:
        content = file.read(most + 1)  # the file may grow, and files of /proc report no size
    if len(content) > most:
        raise _too_large(path, most)
    return content


def read_text(path: str | Path, most: int = MAX_TEXT_BYTES) -> str:
    """Return the UTF-8 text of a regular file of at most `most` bytes; raises as `require_file`."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: str | Path, most: int = MAX_TEXT_BYTES, finite: bool = False) -> Any:
    """Return the value of a JSON file; see `parse_json`.

    Raises:
        OSError: it is no regular file of at most `most` bytes.
        ValueError: `parse_json` refuses its text.
    """
    return parse_json(read_text(path, most), finite)


def parse_json(text: str | bytes, finite: bool = False) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is no JSON, has a key twice or more than `MAX_DEPTH` levels, or, with `finite`, NaN or infinity.
    """
    try:
        value = json.loads(text, object_pairs_hook=_each_key_once)
    except RecursionError:
        raise _too_deep() from None
    check_plain(value, finite)
    return value


def check_plain(value: Any, finite: bool = False) -> None:
    """Raise `ValueError` for too many levels of lists and dictionaries and, with `finite`, for NaN and infinity."""
    level = [value]  # breadth first, without recursion
    # One pass for each level of nesting.
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, (dict, list)):
                below += item.values() if isinstance(item, dict) else item
            elif finite and isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"expected finite numbers, found {item}")
        if not below:
            return
        level = below
    raise _too_deep()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a neighbour file and rename it to `path`, so that a crash or a full disk leaves the old file.

    A link stays a link: its target is replaced. A device is never replaced: for root, `/dev/null` would become a file.

    Raises:
        OSError: the folder cannot be written, the disk is full, or a device, pipe or folder is at `path`.
    """
    path = Path(os.path.realpath(path))
    if path.exists():
        require_file(path)
    partial = path.with_name(f".{path.name[:60]}.partial")  # 60: `path.name` may have the maximal length already
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: str | bytes) -> None:
    """Write a file of results atomically.

    Raises:
        CheckpointError: it cannot be written.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(
            f"expected to write {path}, found: {error.strerror}; free space or choose another place"
        ) from error


def writable_folder(folder: Path) -> None:
    """Make a folder and check that files can be written to it.

    Raises:
        CheckpointError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # it has no name where the system allows, so a kill leaves nothing
            pass
    except OSError as error:
        raise CheckpointError(
            f"expected a folder that can be written at {folder}, found: {error.strerror}; choose another one"
        ) from error


def sync_to_disk(path: Path) -> None:
    """Flush a file or a folder to the disk. After a power loss it is then complete."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _check(found: os.stat_result, path: str | Path, most: int | None) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        code = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
        raise OSError(code, f"{_KINDS.get(kind, 'something else')} instead of a regular file", str(path))
    if most is not None and found.st_size > most:
        raise _too_large(path, most)


def _too_large(path: str | Path, most: int) -> OSError:
    return OSError(errno.EFBIG, f"a file of more than {most} bytes", str(path))


def _too_deep() -> ValueError:
    return ValueError(f"expected at most {MAX_DEPTH} levels of nesting, found more")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    # `dict` keeps only the last of equal keys.
    if len(values) < len(pairs):
        raise ValueError(
            f"expected each key once, found {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} twice"
        )
    return values
