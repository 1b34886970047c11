"""Accumulators of a streaming build: an array that grows by blocks, and one-pass mean and variance."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray


class Column:
    """An array [N, ...] that grows by blocks of rows. It is in a `.npy` file, or in memory if `path` is None.

    The file is not memory-mapped here. On a full disk a write raises `OSError`, but a mapped page kills the process.
    """

    def __init__(self, path: Path | None, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> None:
        self.path, self.dtype, self.row_shape = path, dtype, row_shape
        self.rows = 0
        self._hash = hashlib.sha256(f"{dtype.str} {row_shape}".encode())
        self._blocks: list[NDArray[Any]] = []
        self._file: BinaryIO | None = path.open("wb") if path else None
        self._write_header()

    def append(self, block: NDArray[Any]) -> None:
        """Add rows [n, ...] of this column's type."""
        block = np.ascontiguousarray(block)
        self._hash.update(block.data)
        self.rows += len(block)
        if self._file:
            self._file.write(block.data)
        else:
            self._blocks.append(block)

    def digest(self) -> str:
        """Return the SHA-256 of type, row shape and content so far."""
        return self._hash.hexdigest()

    def finish(self) -> NDArray[Any]:
        """Close the file and return the array. An array in a file is memory-mapped and read-only."""
        if self._file is None or self.path is None:
            return np.concatenate(self._blocks)  # [N, ...]
        self._write_header()
        self._file.close()
        array: NDArray[Any] = np.load(self.path, mmap_mode="r")
        return array

    def _write_header(self) -> None:
        # NumPy pads the header, so that it can be overwritten with a larger number of rows.
        if self._file:
            self._file.seek(0)
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.rows, *self.row_shape)}
            np.lib.format.write_array_header_1_0(self._file, header)


def digest(array: NDArray[Any]) -> str:
    """Return the digest of a whole array [N, ...]. It equals that of a `Column` with its rows."""
    found = hashlib.sha256(f"{array.dtype.str} {array.shape[1:]}".encode())
    rows = max(1, (1 << 24) // max(1, array[:1].nbytes))  # 16 MiB at a time: the array may be larger than memory
    for start in range(0, len(array), rows):
        found.update(np.ascontiguousarray(array[start : start + rows]).data)
    return found.hexdigest()


class RunningMoments:
    """Mean and standard deviation over rows, block by block in float64.

    Mean and sum of squared deviations of each block are merged with those so far (Chan, Golub and LeVeque 1983). This
    avoids the cancellation in `E[x^2] - E[x]^2`. Values are taken relative to the first row, so the standard deviation
    of a constant column is exactly 0.

    Attributes:
        size: largest absolute value of each column [d].
    """

    def __init__(self) -> None:
        self._n = 0
        self._origin: NDArray[np.float64] = np.zeros(0)
        self._mean: NDArray[np.float64] = np.zeros(0)  # relative to the origin
        self.size: NDArray[np.float64] = np.zeros(0)
        self._m2: NDArray[np.float64] = np.zeros(0)  # sum of squared deviations [d]

    def update(self, block: NDArray[Any]) -> None:
        """Add rows [n, d]."""
        block = block.astype(np.float64)
        if self._n == 0:
            self._origin = block[0].copy()
        n, size = len(block), np.abs(block).max(axis=0)
        block -= self._origin
        mean = block.mean(axis=0)
        block -= mean
        m2 = np.einsum("nd,nd->d", block, block)  # [n, d] -> [d]
        if self._n == 0:
            self._n, self._mean, self._m2, self.size = n, mean, m2, size
            return
        delta, total = mean - self._mean, self._n + n
        self._mean = self._mean + delta * (n / total)
        self._m2 = self._m2 + m2 + delta**2 * (self._n * n / total)
        self._n, self.size = total, np.maximum(self.size, size)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean [d]."""
        return self._origin + self._mean

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation [d]."""
        return np.sqrt(self._m2 / max(self._n, 1))
