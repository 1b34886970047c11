"""Datasets and checkpoints fetched by name from a release: a folder, or an address (http, https), with this layout:

```
release.json              {KIND: {NAME: {"about": TEXT, "files": {PATH: {"bytes": N, "sha256": HEX}}}}}
KIND/NAME/PATH            the files; KIND is datasets or pretrained
```

`scripts/release.py` makes one. The user names it with `--release` or `$SNN_DT_RELEASE`; without that, nothing is
fetched. A file whose size or checksum differs from the list is refused, and a name is there completely or not at all.
A folder that was fetched is used without the network, or as long as the named release lists the same files.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote
from urllib.request import urlopen

from snn_dt import io
from snn_dt.errors import ConfigError

VARIABLE = "SNN_DT_RELEASE"
SECONDS = 20.0
"""Seconds that a server may keep silent."""
CHUNK = 1 << 20

LIST = ".release.json"
"""File of a fetched folder with the part of the list that it was fetched by."""

_log = logging.getLogger("snn_dt")
_PART = re.compile(r"[\w.-]*[\w-][\w.-]*", re.ASCII)  # no empty part, no `..`


def place() -> str | None:
    """Return the release that the user has named, or None."""
    return os.environ.get(VARIABLE) or None


def entries(kind: str) -> dict[str, Any]:
    """Return what the release holds of a kind, {name: {"about", "files"}}; empty if no release is named.

    Raises:
        ConfigError: the release cannot be reached or read.
    """
    where = place()
    found = _index(where).get(kind, {}) if where else {}
    return found if isinstance(found, dict) else {}


def fetch(kind: str, name: str) -> Path | None:
    """Fetch `name` from the release into the cache and return its folder; None if the release does not hold it.

    Raises:
        ConfigError: the release cannot be reached, or a file is not what the list says.
    """
    where = place()
    entry = entries(kind).get(name)
    if where is None or entry is None:
        return None
    files = _files(entry, name, where)
    total, target = sum(size for size, _ in files.values()), cache(kind) / name
    with (
        io.unfinished_folder(target.parent, ".fetch-") as folder,
        io.unfinished_folder(target.parent, ".fetch-") as replaced,
    ):
        if total > (free := shutil.disk_usage(folder).free):
            raise _unusable(where, ValueError(f"{name!r} of {total / 1e6:,.0f} MB for {free / 1e6:,.0f} MB of disk"))
        _log.warning("fetching %s (%.1f MB) from %s", name, total / 1e6, where)
        for path, (size, digest) in files.items():
            _copy(where, f"{kind}/{name}/{path}", folder / path, size, digest)
        (folder / LIST).write_text(json.dumps(files))
        with suppress(OSError):  # another process may do the same
            if target.is_dir():
                target.rename(replaced / "old")
            folder.rename(target)
    return target


def holds_others(kind: str, name: str, folder: Path) -> bool:
    """Return whether the named release lists other files for `name` than `folder` was fetched by.

    A release that cannot be reached is reported, and does not.
    """
    try:
        where, entry = place(), entries(kind).get(name)
        if where is None or entry is None:
            return False
        expected = _files(entry, name, where)
    except ConfigError as error:
        _log.warning("%s is used as it was fetched before: %s", name, error)
        return False
    try:
        found = io.read_json(folder / LIST)
    except (OSError, ValueError):
        return True
    return bool(found != {path: list(fact) for path, fact in expected.items()})


def cache(kind: str) -> Path:
    """Return the folder for what was fetched."""
    return io.cache_root() / "release" / kind


@functools.lru_cache(maxsize=4)
def _index(where: str) -> dict[str, Any]:
    try:
        with _open(where, "release.json") as file:
            content = file.read(io.MAX_TEXT_BYTES + 1)
        found = io.parse_json(content)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unusable(where, error) from error
    if not isinstance(found, dict):
        raise _unusable(where, ValueError("a release.json that is no object"))
    return found


def _files(entry: Any, name: str, where: str) -> dict[str, tuple[int, str]]:
    """Return {path: (bytes, checksum)} of an entry. Every name is checked, because it becomes a path here."""
    try:
        files = {path: (fact["bytes"], str(fact["sha256"])) for path, fact in entry["files"].items()}
        if not all(type(size) is int and size >= 0 for size, _ in files.values()):
            raise ValueError("a number of bytes that is none")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unusable(where, ValueError(f"no list of files with bytes and sha256 for {name!r}")) from error
    for path in (name, *files):
        if not all(_PART.fullmatch(part) for part in path.split("/")):
            raise _unusable(where, ValueError(f"the name {path[:80]!r}"))
    return files


def _copy(where: str, path: str, target: Path, size: int, digest: str) -> None:
    """Copy one file of `size` bytes and compare its SHA-256."""
    left, found = size, hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _open(where, path) as source, target.open("wb") as file:
            # One byte more than listed is enough to know that the file is another one.
            while left >= 0 and (chunk := source.read(min(CHUNK, left + 1))):
                left -= len(chunk)
                found.update(chunk)
                file.write(chunk)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unusable(where, error) from error
    if left or found.hexdigest() != digest:
        raise ConfigError(
            f"expected {path} of {where} as its release.json lists it ({size} bytes), found other content; the "
            "release is damaged or was interrupted, make it again"
        )


def _open(where: str, path: str) -> BinaryIO:
    if "://" not in where:
        return io.open_file(io.expand(where) / path)
    if not where.startswith(("http://", "https://")):
        raise ValueError("an address that is neither http nor https")
    opened: BinaryIO = urlopen(f"{where.rstrip('/')}/{quote(path)}", timeout=SECONDS)
    return opened


def _unusable(where: str, error: Exception) -> ConfigError:
    said = getattr(error, "reason", None) or (error.strerror if isinstance(error, OSError) else None) or error
    return ConfigError(
        f"expected a release at {where}, found: {' '.join(str(said).split())}; check the network and --release "
        f"(or ${VARIABLE}), or leave it out to work with what is on this machine"
    )
