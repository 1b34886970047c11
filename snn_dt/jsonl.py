"""Strict JSON without NaN, and JSONL files (one object for each line)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from snn_dt import io

MEASUREMENTS = {"evaluation", "validation_loss"}
"""Keys of lines that hold an evaluation or a validation loss."""


def plain(value: Any, keep_nan: bool = False) -> Any:
    """Convert `value` to dicts, lists, numbers and strings.

    0-d tensors and numpy scalars become numbers. Arrays become lists. NaN and infinity are not JSON and become None
    unless `keep_nan`. Other types become their string.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, keep_nan) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, keep_nan) for item in value]
    # numpy arrays and scalars, and torch tensors.
    if hasattr(value, "tolist"):
        return plain(value.tolist(), keep_nan)
    if isinstance(value, float):
        return value if keep_nan or math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def dumps(value: Any, indent: int | None = None) -> str:
    """Return `value` as valid JSON."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def append_line(path: Path, line: str) -> None:
    """Append one line with one unbuffered write.

    Raises:
        OSError: the line did not fit. A part of it may be in the file; `read_rows` skips it.
    """
    # Unbuffered and in append mode: one system call, so lines of two writers do not mix.
    with path.open("ab", buffering=0) as file:
        data = line.encode() + b"\n"
        if file.write(data) != len(data):
            raise OSError("no space left for a whole line")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSONL file. Lines that a crash or a full disk has torn are skipped.

    Raises:
        OSError: the file cannot be read.
    """
    return [row for _, row in _lines(path)]


def cut_after(path: Path, step: int, measured: int | None = None) -> None:
    """Drop torn lines and every line whose `step` is larger than `step`, atomically. A missing file stays missing.

    `measured`, if given, is the limit for lines that hold an evaluation or a validation loss.

    Raises:
        OSError: the file cannot be read or written.
    """

    def stays(row: dict[str, Any]) -> bool:
        last = measured if measured is not None and MEASUREMENTS & row.keys() else step
        return (row.get("step") or 0) <= last

    if path.exists():
        kept = [line for line, row in _lines(path) if stays(row)]
        io.write_atomically(path, "".join(f"{line}\n" for line in kept))


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with io.open_file(path) as file:
        # Only `\n` ends a line here; `splitlines` would split at other characters too.
        lines = file.read().decode(errors="replace").split("\n")
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # a torn or foreign line
            continue
        if isinstance(row, dict):
            yield line, row


def write_json(value: Any, path: Path) -> None:
    """Write a value to a JSON file, whole or not at all.

    Raises:
        CheckpointError: it cannot be written.
    """
    io.write_file(path, dumps(value, indent=2) + "\n")
