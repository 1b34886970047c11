"""Protection against damaged and hostile dataset files: declared sizes and library errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from snn_dt.errors import DataError, SnnDtError

MAX_RATIO = 200
"""Largest ratio of declared bytes to bytes of the file. Compressed real data reach about 20."""
MIN_ALLOWED_BYTES = 1 << 26
"""Declared bytes that any file may have, 64 MiB."""


@dataclass
class Declared:
    """Bytes of numbers that the files of a dataset declare, compared with their size on disk.

    A file of a few kB can make a file library fill the memory: rows that were never written, or zeros that compress
    well.
    """

    path: Path
    size: int = 0
    bytes: int = 0

    def add(self, declared: int, size: int = 0) -> None:
        """Add numbers that will be read, and the size of their file; raises `DataError` if the ratio is too large."""
        # Totals over all files of the dataset: many small excesses add up to a large one.
        self.bytes, self.size = self.bytes + declared, self.size + size
        if self.bytes > max(MIN_ALLOWED_BYTES, MAX_RATIO * self.size):
            raise DataError(
                f"{self.path} has {self.size} bytes and declares {self.bytes} bytes of numbers: expected at most "
                f"{MAX_RATIO} times as many; it is damaged or made up, download or copy the dataset again"
            )


@contextmanager
def damaged_file(path: Path) -> Iterator[None]:
    """Turn the exceptions that file libraries raise for a broken file into one `DataError`."""
    try:
        yield
    except SnnDtError:
        raise
    except Exception as error:
        # `strerror` leaves out the path, which the message names already.
        said = error.strerror if isinstance(error, OSError) and error.strerror else (error.args or (error,))[0]
        reason = " ".join(str(said).split())
        raise DataError(
            f"cannot read {path}: it is missing, damaged or incomplete ({reason}); download or copy the dataset again"
        ) from error
