"""JSON that any reader accepts, one object a line; and files that appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from snn_dt import io

MEASURED = {"evaluation", "validation_loss"}


def plain(value: Any, keep_nan: bool = False) -> Any:
    """Return `value` in dicts, lists and numbers: 0-d tensors and numpy scalars become numbers, arrays become lists.

    NaN and infinities, which are not JSON, become None unless `keep_nan`. Anything unknown becomes its string.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, keep_nan) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, keep_nan) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist(), keep_nan)
    if isinstance(value, float):
        return value if keep_nan or math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def dumps(value: Any, indent: int | None = None) -> str:
    """Return `value` as valid JSON."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file through a neighbour that then takes its name, so that a crash or a full disk leaves the old one.

    A link stays one: what it leads to is replaced. What is no file is not: a root user's `/dev/null` would be a file
    from then on, for everybody.

    Raises:
        OSError: the folder cannot be written, the disk is full, or a device, pipe or folder is at `path`.
    """
    path = Path(os.path.realpath(path))
    if path.exists():
        io.require_file(path)
    partial = path.with_name(f".{path.name[:60]}.partial")  # 60: a name may be as long as the system allows
    try:
        with partial.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Append one line with one unbuffered write.

    Raises:
        OSError: the line did not fit; a part of it may be in the file, and `read_rows` passes over it.
    """
    with path.open("ab", buffering=0) as file:
        data = line.encode() + b"\n"
        if file.write(data) != len(data):
            raise OSError("no space left for a whole line")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file, without the lines that a crash or a full disk has torn.

    Raises:
        OSError: the file cannot be read.
    """
    return [row for _, row in _lines(path)]


def cut_after(path: Path, step: int, measured: int | None = None) -> None:
    """Drop, atomically, torn lines and every line whose `step` is larger than `step`; a missing file stays missing.

    Of lines that hold an evaluation or a validation loss, those whose `step` is larger than `measured` go, if given.

    Raises:
        OSError: the file cannot be read or written.
    """

    def stays(row: dict[str, Any]) -> bool:
        last = measured if measured is not None and MEASURED & row.keys() else step
        return (row.get("step") or 0) <= last

    if path.exists():
        kept = [line for line, row in _lines(path) if stays(row)]
        write_atomically(path, "".join(f"{line}\n" for line in kept))


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with io.open_file(path) as file:
        lines = file.read().decode(errors="replace").split("\n")
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # torn, or no line of ours
            continue
        if isinstance(row, dict):
            yield line, row
