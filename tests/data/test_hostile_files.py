"""Reading a dataset reads that file alone, and neither waits nor fills the memory."""

from __future__ import annotations

import json
import os

import h5py
import numpy as np
import pytest

from snn_dt.data import load_dataset
from snn_dt.data.file_faults import Declared
from snn_dt.data.tables import read_table
from snn_dt.errors import DataError

pa = pytest.importorskip("pyarrow")
ROWS = 20


def d4rl(path):
    """Write a small file in D4RL's layout."""
    with h5py.File(path, "w") as file:
        file["observations"] = np.random.default_rng(0).normal(size=(ROWS, 3))
        file["actions"] = np.zeros((ROWS, 1))
        file["rewards"] = np.ones(ROWS)
        file["terminals"] = np.arange(ROWS) == ROWS - 1
        file["timeouts"] = np.zeros(ROWS, bool)
    return path


def outside(file, name, other):
    del file[name]
    file[name] = h5py.ExternalLink(str(other), name)


def behind(file, name, other):
    outside(file, name, other)
    file.move(name, "hidden")
    file[name] = h5py.SoftLink("/hidden")


def raw(file, name, other):
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape, "u1", external=[("/etc/passwd", 0, int(np.prod(shape)))])


def virtual(file, name, other):
    shape = file[name].shape
    del file[name]
    layout = h5py.VirtualLayout(shape, "f8")
    layout[...] = h5py.VirtualSource(str(other), name, shape)
    file.create_virtual_dataset(name, layout)


def unwritten(file, name, other):
    shape = file[name].shape
    del file[name]
    file.create_dataset(name, shape, "f8", fillvalue=3.0)


def grown(file, name, other):
    old = file[name][()]
    del file[name]
    file.create_dataset(name, data=old[:2], maxshape=(None, *old.shape[1:]), chunks=(2, *old.shape[1:]))
    file[name].resize(old.shape[0], axis=0)


def billion(file, name, other):
    for each in list(file):
        shape = file[each].shape
        del file[each]
        file.create_dataset(each, (10**9, *shape[1:]), "f4", chunks=(1000, *shape[1:]), compression="gzip")


def packed(file, name, other):
    del file[name]
    file.create_dataset(name, data=np.zeros((ROWS, 5_000_000), "u1"), chunks=(1, 5_000_000), compression="gzip")


def text(file, name, other):
    del file[name]
    file[name] = np.array([b"x"] * ROWS)


@pytest.mark.parametrize("name", ["observations", "rewards", "terminals", "timeouts"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (outside, "a link to another file"),
        (behind, "a link to another file"),
        (raw, "numbers of another file"),
        (virtual, "a virtual dataset"),
        (unwritten, "were never written"),
        (grown, "were never written"),
        (billion, "were never written"),
        (text, "expected numbers"),
    ],
)
def test_an_hdf5_file_gives_only_the_numbers_that_are_in_it(tmp_path, change, expected, name):
    other, path = d4rl(tmp_path / "other.hdf5"), d4rl(tmp_path / "mine.hdf5")
    with h5py.File(path, "r+") as file:
        change(file, name, other)
    with pytest.raises(DataError) as caught:
        load_dataset(f"d4rl:{path}", cache=False)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_that_a_file_can_hardly_hold_are_refused(tmp_path):
    path = d4rl(tmp_path / "mine.hdf5")
    with h5py.File(path, "r+") as file:
        packed(file, "observations", None)
    with pytest.raises(DataError, match="expected at most 200 times as many"):
        load_dataset(f"d4rl:{path}", cache=False)


def test_a_soft_link_inside_the_file_is_followed(tmp_path):
    path = d4rl(tmp_path / "mine.hdf5")
    plain = load_dataset(f"d4rl:{path}", cache=False)
    with h5py.File(path, "r+") as file:
        file.move("rewards", "elsewhere")
        file["rewards"] = h5py.SoftLink("/elsewhere")
    assert load_dataset(f"d4rl:{path}", cache=False).checksum == plain.checksum


@pytest.mark.parametrize("spec", ["d4rl:{}.hdf5", "{}", "minari:{}", "d4rl:{}"])
@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "\ud800", "~nosuchuser/x"])
def test_a_name_that_cannot_be_is_no_dataset(spec, name):
    with pytest.raises(DataError) as caught:
        load_dataset(spec.format(name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"total_episodes": Infinity}', '{"a": 1, "a": 2}', "9" * 5000])
def test_metadata_that_cannot_be_read_are_one_line(tmp_path, content):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text(content)
    with pytest.raises(DataError, match=r"expected (Minari's metadata with )?total_episodes"):
        load_dataset(tmp_path)


def test_a_pipe_in_the_place_of_the_data_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    box = json.dumps({"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]})
    facts = {"total_episodes": 1, "observation_space": box, "action_space": box}
    (tmp_path / "data" / "metadata.json").write_text(json.dumps(facts))
    os.mkfifo(tmp_path / "data" / "main_data.hdf5")
    with pytest.raises(DataError, match="a pipe"):
        load_dataset(tmp_path, cache=False)


def written(path, table, **options):
    """Write a table as Arrow or Parquet, by the ending of the name."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        pyarrow.parquet.write_table(table, path)
    else:
        with pa.OSFile(str(path), "wb") as file:
            chosen = pa.ipc.IpcWriteOptions(**options)
            with pa.ipc.new_file(file, table.schema, options=chosen) as writer:
                writer.write_table(table)
    return path


@pytest.mark.parametrize(("ending", "options"), [("arrow", {"compression": "zstd"}), ("parquet", {})])
def test_a_table_that_a_file_can_hardly_hold_is_refused(tmp_path, ending, options):
    path = written(tmp_path / f"part-0.{ending}", pa.table({"a": np.zeros(10_000_000)}), **options)
    with pytest.raises(DataError, match="expected at most 200 times as many"):
        read_table([path], ["a"], ending, Declared(tmp_path))


@pytest.mark.parametrize("options", [{}, {"compression": "zstd"}, {"compression": "lz4"}])
def test_a_table_of_usual_size_is_read_packed_or_not(tmp_path, options):
    table = pa.table({"a": np.arange(9.0), "other": ["x"] * 9, "b": [[1.0, 2.0]] * 9})
    path = written(tmp_path / "part-0.arrow", table, **options)
    assert read_table([path, path], ["b", "a"], "arrow", Declared(tmp_path)).column("a").to_pylist() == [*range(9)] * 2


def test_columns_that_stand_for_rows_without_bytes_are_refused(tmp_path):
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([10**9], "int32"), pa.array([1.0]))
    for column in (pa.nulls(10**9), runs, pa.array(["x"])):
        path = written(tmp_path / "part-0.arrow", pa.table({"a": column}))
        with pytest.raises(ValueError, match="expected numbers"):
            read_table([path], ["a"], "arrow", Declared(tmp_path))
