"""Read columns of untrusted Arrow and Parquet files, whose declared size is checked first."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from snn_dt import io
from snn_dt.data.file_faults import Declared

_MAGIC = b"ARROW1\0\0"
_END = b"ARROW1"
_NUMBER_BYTES = 8
"""Largest size of a decoded Parquet number."""


def read_table(parts: Sequence[Path], columns: Sequence[str], file_format: str, declared: Declared) -> Any:
    """Return columns of the concatenated files as a `pyarrow.Table`; their declared size is added to `declared`.

    Raises:
        OSError, ValueError: a file is missing, damaged or no regular file, or a column does not hold numbers.
        KeyError: a column is missing.
        DataError: the declared size is far larger than the files.
    """
    import pyarrow

    # pyarrow would fail with a message about schemas.
    if not parts:
        raise ValueError("no file part-*")
    read = {"arrow": _read_arrow, "parquet": _read_parquet}[file_format]
    table = pyarrow.concat_tables([read(io.require_file(part), columns, declared) for part in parts])
    table.validate(full=True)  # pyarrow does not check offsets by itself
    return table


def _read_parquet(path: Path, columns: Sequence[str], declared: Declared) -> Any:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        _check_columns(file.schema_arrow, columns)
        facts, numbers, unpacked = file.metadata, 0, 0
        # Only the columns that are read count.
        for group in (facts.row_group(index) for index in range(facts.num_row_groups)):
            for column in (group.column(index) for index in range(group.num_columns)):
                if column.path_in_schema.split(".")[0] in columns:
                    numbers, unpacked = numbers + column.num_values, unpacked + column.total_uncompressed_size
        declared.add(max(numbers * _NUMBER_BYTES, unpacked), path.stat().st_size)
        return file.read(list(columns))


def _read_arrow(path: Path, columns: Sequence[str], declared: Declared) -> Any:
    """Read an Arrow file as a stream of messages; the table at its end may contradict them."""
    import pyarrow.ipc

    with pyarrow.memory_map(str(path)) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("no Arrow file")
        file.seek(max(0, file.size() - len(_END)))
        if file.read() != _END:
            raise ValueError("an Arrow file that was cut")
        file.seek(len(_MAGIC))
        declared.add(_arrow_size(pyarrow.ipc.MessageReader.open_stream(file)), path.stat().st_size)
        file.seek(len(_MAGIC))
        # The schema comes first in the stream; then the stream is opened from its start.
        schema = pyarrow.ipc.read_schema(file)
        _check_columns(schema, columns, images=True)
        file.seek(len(_MAGIC))
        options = pyarrow.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in columns])
        with pyarrow.ipc.open_stream(file, options=options) as stream:
            return stream.read_all().select(list(columns))


def _arrow_size(messages: Any) -> int:
    """Return the decompressed size of the record batches of a stream."""
    total = 0
    for message in messages:
        total += message.body.size if message.body is not None else 0
        if message.type != "schema":
            try:
                total += _decompressed_size(message.metadata.to_pybytes(), message.body)
            except struct.error:
                raise ValueError("a message that cannot be read") from None
    return total


def _decompressed_size(message: bytes, body: Any) -> int:
    """Return the decompressed size of the compressed buffers of a message; 0 if they are not compressed.

    The layout is that of `RecordBatch` in Arrow's `Message.fbs`. A compressed buffer begins with its decompressed
    length, or with -1 if it is not compressed.
    """

    def integer(at: int, kind: str = "<I") -> int:
        found: int = struct.unpack_from(kind, message, at)[0]
        return found

    def fields(table: int) -> Callable[[int], int]:
        """Return a function from field number to position in a flatbuffer's table, 0 for a missing field."""
        layout = table - integer(table, "<i")
        size = integer(layout, "<H")
        return lambda n: table + offset if 4 + 2 * n < size and (offset := integer(layout + 4 + 2 * n, "<H")) else 0

    # Field 2 of `Message` is its header, here a `RecordBatch`.
    header = fields(integer(0))(2)
    batch = fields(header + integer(header))
    if not batch(3):  # field `compression`
        return 0
    buffers = batch(2) + integer(batch(2))
    total = 0
    # Each `Buffer` is two 64-bit integers, after the 32-bit length of the vector.
    for index in range(integer(buffers)):
        offset, length = integer(buffers + 4 + 16 * index, "<q"), integer(buffers + 12 + 16 * index, "<q")
        if length >= 8:
            total += max(0, struct.unpack("<q", body.slice(offset, 8).to_pybytes())[0])
    return total


def _check_columns(schema: Any, columns: Sequence[str], images: bool = False) -> None:
    """Raise `KeyError` or `ValueError` unless the columns hold numbers, or lists or structures of numbers.

    Other types can declare any number of rows without storing them. With `images` they may also hold files of bytes.
    """
    from pyarrow import types

    def holds(kind: Any) -> bool:
        if types.is_struct(kind):
            return all(holds(kind.field(index).type) for index in range(kind.num_fields))
        if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
            return holds(kind.value_type)
        if images and (types.is_binary(kind) or types.is_large_binary(kind)):
            return True  # a file for each frame
        return bool(types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind))

    for name in columns:
        if schema.get_field_index(name) < 0:
            raise KeyError(f"the column {name!r} is missing, or there twice")
        if not holds(kind := schema.field(name).type):
            raise ValueError(f"the column {name!r} is of type {kind}, expected numbers")
