"""Files that were written by anybody: what is opened is a regular file of a size that fits, never a device or a pipe.

The readers here raise what reading a file raises anyway, so a caller has nothing new to catch: `OSError` for a file
that cannot be opened, is no regular file or is too large, `ValueError` for a name or a content that cannot be used. Of
both the text is one short line. Files that appear whole or not at all are written by `jsonl.py`, folders by
`data/unfinished.py`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import math
import os
import stat
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

from snn_dt.errors import ConfigError, SnnDtError

MOST_TEXT = 1 << 24
"""Bytes of the largest text file that is read whole, 16 MiB: three hundred times the largest the package writes."""
MOST_DEPTH = 64
"""Levels of the deepest JSON or YAML that is read: what walks through it calls itself once for each."""
LONGEST_NAME = 255
"""Bytes of the longest name of a file in nearly every file system."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe (FIFO)",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_file(path: str | Path) -> bool:
    """Tell whether a regular file, or a link to one, is at `path`; no name is so odd that this raises."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder, or a link to one, is at `path`; no name is so odd that this raises."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def require_file(path: str | Path, most: int | None = None) -> Path:
    """Return `path`, at which there is a regular file, or a link to one, of at most `most` bytes.

    For libraries that open a file by its name; where there is a choice, `open_file` leaves no time to exchange it.

    Raises:
        OSError: there is none, or a folder, pipe, socket or device is in its place.
        ValueError: no file can have that name.
    """
    _check(os.stat(path), path, most)
    return Path(path)


def open_file(path: str | Path, most: int | None = None) -> BinaryIO:
    """Open a regular file, or a link to one, of at most `most` bytes, to read its bytes; raises as `require_file`."""
    require_file(path, most)  # to open a device may already do something
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)  # a pipe put there meanwhile opens at once, and is refused
    try:
        _check(os.fstat(descriptor), path, most)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, most: int = MOST_TEXT) -> bytes:
    """Return the content of a regular file of at most `most` bytes; raises as `require_file`."""
    with open_file(path, most) as file:
        content = file.read(most + 1)  # it may grow, and some of /proc tell no size
    if len(content) > most:
        raise _too_large(path, most)
    return content


def read_text(path: str | Path, most: int = MOST_TEXT) -> str:
    """Return the UTF-8 text of a regular file of at most `most` bytes; raises as `require_file`."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: str | Path, most: int = MOST_TEXT, finite: bool = False) -> Any:
    """Return what the JSON in a regular file says; see `parse_json`.

    Raises:
        OSError: it is no regular file of at most `most` bytes.
        ValueError: it is no JSON that can be used.
    """
    return parse_json(read_text(path, most), finite)


def parse_json(text: str | bytes, finite: bool = False) -> Any:
    """Return what a JSON text says: each key once, at most `MOST_DEPTH` levels deep; with `finite` no NaN, no infinity.

    Raises:
        ValueError: it is no such JSON; `RecursionError` and numbers without an end are among it.
    """
    try:
        value = json.loads(text, object_pairs_hook=_each_key_once)
    except RecursionError:
        raise _too_deep() from None
    check_plain(value, finite)
    return value


def check_plain(value: Any, finite: bool = False) -> None:
    """Raise `ValueError` for lists and dictionaries that are nested too deep, with `finite` also NaN and infinity."""
    level = [value]
    for _ in range(MOST_DEPTH + 1):
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


def check_name(path: str | Path, error: type[SnnDtError] = ConfigError, what: str = "a path") -> Path:
    """Return `path`, to which a file can be written or at which one may be: `~` is expanded, as `expand` does.

    Raises:
        SnnDtError: of the kind `error`; the name is empty, or has a part that no file system takes.
    """
    text = os.fspath(path)
    if not text:
        raise error(f"expected {what}, found an empty one (an unset variable?); name one")
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:
        raise error(f"expected {what} that can be written as bytes, found {_short(text)}; rename it") from None
    if b"\0" in encoded:
        raise error(f"expected {what} without NUL, found {_short(text)}; rename it")
    if len(encoded) > 4095 or any(len(part) > LONGEST_NAME for part in encoded.split(b"/")):
        raise error(f"expected {what} of names of at most {LONGEST_NAME} bytes, found {_short(text)}; shorten it")
    return expand(path, error)


def expand(path: str | Path, error: type[SnnDtError] = ConfigError) -> Path:
    """Return `path` with a `~` or `~user` at its beginning replaced by the home folder.

    Raises:
        SnnDtError: of the kind `error`; there is no such user.
    """
    path = Path(path)
    try:
        return path.expanduser()
    except RuntimeError:
        if path.parts[0] == "~":
            return Path(home(), *path.parts[1:])
    raise error(f"expected a path, found {_short(str(path))}, and no user {path.parts[0][1:]!r}; write the folder out")


def home() -> Path:
    """Return the user's home folder; for a user who has none, as in a container, a private one for temporary files."""
    try:
        return Path.home()
    except RuntimeError:
        return private_folder()


@functools.cache
def private_folder() -> Path:
    """Return `snn_dt-<user id>` in the folder for temporary files, made for and open to this user alone.

    Where another user has taken that name, it is a new folder, which this process alone knows.
    """
    folder = Path(tempfile.gettempdir()) / f"snn_dt-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    with contextlib.suppress(OSError):  # it is a file, or nothing can be made there
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_dir() and only_ours(folder) and not folder.is_symlink():
        return folder
    return Path(tempfile.mkdtemp(prefix="snn_dt-"))


def only_ours(path: str | Path) -> bool:
    """Tell whether this user or root owns what is at `path` and nobody else can write it."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    return is_only_ours(found)


def is_only_ours(found: os.stat_result) -> bool:
    """Tell the same of what `os.stat` or `os.fstat` has found."""
    if not hasattr(os, "geteuid"):  # Windows, whose user folders are private
        return True
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


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
    return ValueError(f"expected at most {MOST_DEPTH} levels of nesting, found more")


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(
            f"expected each key once, found {Counter(key for key, _ in pairs).most_common(1)[0][0]!r} twice"
        )
    return values


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")
