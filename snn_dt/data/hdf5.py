"""Safe reading of untrusted HDF5 files.

An HDF5 file can refer to other files (external links, external storage, virtual datasets). It can load libraries
(filters) and declare any number of rows that were never written. `open_hdf5` refuses all of this before reading.
Otherwise the file is used as with h5py: `file["episode_0"]["rewards"][()]`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from snn_dt import io
from snn_dt.data.file_faults import Declared
from snn_dt.errors import DataError

MAX_LINKS = 16
"""Largest number of soft links that are followed one after another."""
# The filters that are part of the library: deflate, shuffle, fletcher32, szip, n-bit, scale-offset; h5py's own lzf.
FILTERS = {1, 2, 3, 4, 5, 6, 32000}


class CheckedGroup:
    """A group of an HDF5 file that checks groups and datasets before it returns them.

    Raises:
        KeyError: there is no such name.
        DataError: the object refers to another file, or does not hold the declared numbers.
    """

    def __init__(self, group: Any, declared: Declared, checked: set[str], images: bool) -> None:
        self._group, self._declared, self._path, self._images = group, declared, declared.path, images
        self._checked = checked  # names of the datasets that have passed

    @property
    def attrs(self) -> Any:
        """The attributes of the group, which are always in this file."""
        return self._group.attrs

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __contains__(self, name: str) -> bool:
        return any(name == known for known in self._group)  # h5py's own `in` follows links

    def __getitem__(self, name: str) -> Any:
        """Return the `CheckedGroup` or the `h5py.Dataset` at a path below this group."""
        import h5py

        found = self._follow(self._group, name, MAX_LINKS)
        if isinstance(found, h5py.Group):
            return CheckedGroup(found, self._declared, self._checked, self._images)
        full_name = f"{self._group.name.rstrip('/')}/{name}"
        if not isinstance(found, h5py.Dataset):
            raise self._refused(full_name, "a named type")
        # A dataset is counted once, however often it is read.
        if full_name not in self._checked:
            self._check(found, full_name)
            self._declared.add(found.size * found.dtype.itemsize)
            self._checked.add(full_name)
        return found

    def _follow(self, group: Any, name: str, links: int) -> Any:
        """Follow a path link by link, since the library would silently continue in other files.

        Even h5py's existence checks do. Only the information about a link is safe to read.
        """
        import h5py

        # A path with a leading slash starts at the root of the file.
        here = group.file if name.startswith("/") else group
        for part in name.split("/"):
            if part in ("", "."):
                continue
            try:
                kind = here.id.links.get_info(part.encode()).type
            except (KeyError, RuntimeError, AttributeError):  # AttributeError: `here` is no group
                raise KeyError(f"no {name!r} in {group.name}") from None
            where = f"{here.name.rstrip('/')}/{part}"
            if kind == h5py.h5l.TYPE_HARD:
                here = here[part]
            elif kind == h5py.h5l.TYPE_SOFT and links:
                here = self._follow(here, here.id.links.get_val(part.encode()).decode(), links - 1)
            elif kind == h5py.h5l.TYPE_SOFT:
                raise self._refused(where, f"more than {MAX_LINKS} links one after the other")
            else:
                raise self._refused(where, f"a link to another file, {here.id.links.get_val(part.encode())}")
        return here

    def _check(self, dataset: Any, name: str) -> None:
        import h5py

        # The creation properties can be read without reading data.
        plist = dataset.id.get_create_plist()
        if plist.get_layout() == h5py.h5d.VIRTUAL:
            raise self._refused(name, "a virtual dataset, made of others")
        if plist.get_external_count():
            raise self._refused(name, f"numbers of another file, {plist.get_external(0)[0]}")
        files = self._images and h5py.check_vlen_dtype(dataset.dtype) == "uint8" and len(dataset.shape or ()) == 1
        if not files and (dataset.shape is None or dataset.dtype.kind not in "biuf"):
            kind = f"type {dataset.dtype}" if dataset.shape is not None else "no size"
            raise DataError(f"{self._path} has {name[1:]} of {kind}: expected numbers; choose another dataset")
        filters = {plist.get_filter(index)[0] for index in range(plist.get_nfilters())}
        if others := filters - FILTERS:
            raise self._refused(name, f"a filter that is not part of HDF5, number {min(others)}")
        if dataset.size and (missing := self._missing(dataset)):
            raise DataError(
                f"{self._path}: {name} declares the shape {list(dataset.shape)}, and {missing} were never written: "
                "expected all of them in the file; download or copy the dataset again"
            )

    def _missing(self, dataset: Any) -> str:
        """Return how much of a dataset was never written, as text; reading would return zeros for it."""
        stored = min(dataset.id.get_storage_size(), self._declared.size)
        if dataset.chunks is None:
            missing = dataset.size * dataset.dtype.itemsize - stored
            return f"{missing} of its bytes" if missing > 0 else ""
        chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize  # a chunk is read whole, even for one number
        Declared(self._path, self._declared.size).add(chunk)
        # Number of chunks on each axis, rounded up.
        chunks = math.prod(-(-n // step) for n, step in zip(dataset.shape, dataset.chunks, strict=True))
        missing = chunks - dataset.id.get_num_chunks() if stored else chunks
        return f"{missing} of its {chunks} chunks" if missing > 0 else ""

    def _refused(self, name: str, found: str) -> DataError:
        return DataError(
            f"{self._path}: {name}: expected numbers in the file itself, found {found}; choose another dataset, or "
            "copy the numbers themselves to it"
        )


@contextmanager
def open_hdf5(path: Path, images: bool = False) -> Iterator[CheckedGroup]:
    """Open an HDF5 file for reading; raises `OSError` if there is none. Its groups raise `DataError`.

    With `images` a dataset may also hold a file of bytes in each row.
    """
    import h5py

    size = io.require_file(path).stat().st_size
    with h5py.File(path, "r") as file:
        yield CheckedGroup(file, Declared(path, size), set(), images)
