"""A dataset is read once; after that it is opened, and never half-written."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

import snn_dt
from snn_dt.data import cache
from snn_dt.data.columns import Column, digest
from snn_dt.errors import DataError
from tests.data.test_d4rl_source import write
from tests.data.toy_episodes import random_episodes
from tests.patience import HANG

LENGTHS = [5, 1, 12]


@pytest.fixture
def cached(tmp_path):
    """Return a function that lists what the cache holds, unfinished folders included."""
    return lambda: sorted((tmp_path / "cache" / "datasets").glob("*")) + sorted((tmp_path / "cache").glob("**/.*"))


def test_a_second_open_reads_nothing_of_the_source_and_gives_the_same(minari_set, monkeypatch):
    folder = minari_set(random_episodes(LENGTHS))
    first = snn_dt.load_dataset(str(folder))
    monkeypatch.setattr(h5py, "File", lambda *a, **k: pytest.fail("opened the source"))
    monkeypatch.setattr(snn_dt.data.load, "build_cached", lambda *a: pytest.fail("read the source"))
    second = snn_dt.load_dataset(str(folder))
    for name in ("observations", "actions", "rewards", "returns_to_go", "episode_offsets", "state_mean", "state_std"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.describe() == second.describe()
    assert first.observation_space == second.observation_space
    assert first.reference == second.reference


def test_per_step_arrays_are_memory_mapped_and_read_only(minari_set):
    t = snn_dt.load_dataset(str(minari_set(random_episodes(LENGTHS))))
    for array in (t.observations, t.actions, t.rewards, t.returns_to_go):
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_a_changed_source_is_read_again(minari_set):
    folder = minari_set(random_episodes(LENGTHS))
    before = snn_dt.load_dataset(str(folder))
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_0/rewards"][0] += 1.0
    after = snn_dt.load_dataset(str(folder))
    assert after.episode_returns[0] == pytest.approx(before.episode_returns[0] + 1.0, abs=1e-5)
    assert after.checksum != before.checksum


def test_a_tilde_in_the_cache_is_the_home_folder(minari_set, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SNN_DT_CACHE", "~/x")
    snn_dt.load_dataset(minari_set(random_episodes(LENGTHS)))
    assert len(list((tmp_path / "home" / "x" / "datasets").iterdir())) == 1


def test_reward_modes_are_cached_apart(minari_set):
    folder = str(minari_set(random_episodes(LENGTHS)))
    for _ in range(2):
        assert snn_dt.load_dataset(folder).rewards[0] != 0
        assert snn_dt.load_dataset(folder, reward_mode="delayed").rewards[0] == 0


def test_without_cache_nothing_is_written(minari_set, cached):
    t = snn_dt.load_dataset(str(minari_set(random_episodes(LENGTHS))), cache=False)
    assert t.n_steps == 18
    assert cached() == []


def test_an_unwritable_cache_is_one_line_of_warning_and_the_data_in_memory(minari_set, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SNN_DT_CACHE", str(tmp_path / "file" / "below"))
    with caplog.at_level(logging.WARNING):
        t = snn_dt.load_dataset(str(minari_set(random_episodes(LENGTHS))))
    assert t.n_steps == 18
    (record,) = caplog.records
    assert "SNN_DT_CACHE" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_disk_that_fills_up_leaves_nothing_half_written(minari_set, cached, monkeypatch, caplog):
    append = Column.append

    def full(self, block):
        if self.path and self.rows > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, block)

    monkeypatch.setattr(Column, "append", full)
    t = snn_dt.load_dataset(str(minari_set(random_episodes(LENGTHS))))
    assert t.n_steps == 18
    assert "No space left" in caplog.text
    assert cached() == []


def test_a_dataset_that_is_refused_leaves_nothing_half_written(minari_set, cached):
    episodes = random_episodes(LENGTHS)
    episodes[2]["rewards"][3] = np.nan
    with pytest.raises(DataError):
        snn_dt.load_dataset(str(minari_set(episodes)))
    assert cached() == []


@pytest.mark.parametrize("damage", ["observations.npy", "meta.json", "episode_offsets.npy"])
def test_a_damaged_cache_is_built_again(minari_set, cached, damage):
    folder = str(minari_set(random_episodes(LENGTHS)))
    checksum = snn_dt.load_dataset(folder).checksum
    (entry,) = cached()
    (entry / damage).write_bytes((entry / damage).read_bytes()[:40])
    again = snn_dt.load_dataset(folder)
    assert again.checksum == checksum
    assert isinstance(again.observations, np.memmap)
    assert cached() == [entry]


def test_a_cache_with_reference_returns_that_cannot_be_used_is_built_again(minari_set, cached):
    folder = minari_set(random_episodes(LENGTHS))
    snn_dt.load_dataset(folder)
    (entry,) = cached()
    meta = json.loads((entry / "meta.json").read_text())
    (entry / "meta.json").write_text(json.dumps(meta | {"reference": {"min": 5, "max": 5, "source": "here"}}))
    assert snn_dt.load_dataset(folder).reference is None


def test_of_two_processes_that_build_at_once_both_get_the_data_and_one_folder_stays(minari_set, cached, monkeypatch):
    folder = str(minari_set(random_episodes(LENGTHS)))
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.SimpleQueue()
    publish = cache._publish

    def publish_together(temporary: Path, final: Path) -> None:
        barrier.wait(timeout=HANG)  # both have built by now
        publish(temporary, final)

    monkeypatch.setattr(cache, "_publish", publish_together)

    def load() -> None:
        t = snn_dt.load_dataset(folder)
        queue.put((t.checksum, str(t.observations.filename)))

    processes = [context.Process(target=load) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=HANG)
    assert [process.exitcode for process in processes] == [0, 0]
    assert queue.get() == queue.get()  # the same content out of the same file
    assert len(cached()) == 1


def test_progress_is_told_of_every_episode(minari_set):
    calls: list[tuple[int, int]] = []
    snn_dt.load_dataset(str(minari_set(random_episodes(LENGTHS))), progress=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def _shorten(path: Path) -> None:
    np.save(path, np.load(path)[:-1])


def _zeros(path: Path) -> None:
    np.save(path, np.zeros_like(np.load(path)))


def _edit(**changes: object):
    def edit(path: Path) -> None:
        meta = json.loads((path.parent / "meta.json").read_text())
        (path.parent / "meta.json").write_text(json.dumps(meta | changes))

    return edit


def _unlike(path: Path) -> None:
    np.save(path, np.load(path).astype(np.float64 if np.load(path).dtype != np.float64 else np.float32))


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _header(path: Path) -> None:
    """Declare far more rows than there are."""
    with path.open("rb+") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**15,)})


ARRAYS = [*cache._ARRAYS]
DAMAGE = {
    **{f"{name} empty": (name, lambda p: p.write_bytes(b"")) for name in ARRAYS},
    **{f"{name} missing": (name, Path.unlink) for name in ARRAYS},
    **{f"{name} short": (name, _shorten) for name in ARRAYS},
    **{f"{name} zeros": (name, _zeros) for name in ARRAYS},
    **{f"{name} another type": (name, _unlike) for name in ARRAYS},
    **{f"{name} a pipe": (name, _pipe) for name in ("rewards", "state_mean")},
    **{f"{name} declares too much": (name, _header) for name in ("rewards", "state_mean")},
    "meta empty": ("rewards", lambda p: (p.parent / "meta.json").write_text("")),
    "meta missing": ("rewards", lambda p: (p.parent / "meta.json").unlink()),
    "meta deep": ("rewards", lambda p: (p.parent / "meta.json").write_text("[" * 100_000)),
    "meta a list": ("rewards", lambda p: (p.parent / "meta.json").write_text("[]")),
    "meta a number": ("rewards", lambda p: (p.parent / "meta.json").write_text("1e999")),
    "meta not text": ("rewards", lambda p: (p.parent / "meta.json").write_bytes(b"\xff\xfe")),
    "meta with a key more": ("rewards", _edit(another=1)),
    "meta with another environment": ("rewards", _edit(env_id="Other-v0")),
    "meta with a null space": ("rewards", _edit(action_space=None)),
    "meta with odd reference returns": ("rewards", _edit(reference={"min": 5, "max": 5, "source": "x"})),
    "meta with an odd limit": ("rewards", _edit(time_limit="x")),
    "meta with another digest": ("rewards", _edit(digest="0")),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_whatever_is_wrong_with_a_cache_it_is_built_again_and_said(minari_set, cached, caplog, case):
    name, damage = DAMAGE[case]
    folder = minari_set(random_episodes(LENGTHS))
    good = snn_dt.load_dataset(folder, cache=False)
    snn_dt.load_dataset(folder)
    (entry,) = cached()
    before = np.load(entry / f"{name}.npy")
    damage(entry / f"{name}.npy")
    with caplog.at_level(logging.WARNING):
        again = snn_dt.load_dataset(folder)
    assert np.array_equal(before, getattr(again, name))
    assert again.describe() == good.describe()
    assert "is damaged" in caplog.text
    assert isinstance(again.observations, np.memmap)
    caplog.clear()
    assert snn_dt.load_dataset(folder).describe() == good.describe()
    assert caplog.text == ""


def test_a_large_array_is_compared_where_its_file_was_touched(minari_set, cached, monkeypatch, caplog):
    monkeypatch.setattr(cache, "MAX_CHECKED_BYTES", 0)
    folder = minari_set(random_episodes(LENGTHS))
    checksum = snn_dt.load_dataset(folder).checksum
    compared = []
    monkeypatch.setattr(cache, "digest", lambda array: compared.append(array) or digest(array))
    snn_dt.load_dataset(folder)
    assert compared == []
    (entry,) = cached()
    path = entry / "observations.npy"
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-40:] = bytes(40)
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert snn_dt.load_dataset(folder).checksum == checksum
    assert "observations.npy is not what was written" in caplog.text
    np.testing.assert_array_equal(snn_dt.load_dataset(folder).observations, np.load(path))


def test_a_copied_cache_is_compared_and_used(minari_set, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cache, "MAX_CHECKED_BYTES", 0)
    folder = minari_set(random_episodes(LENGTHS))
    snn_dt.load_dataset(folder)
    shutil.copytree(tmp_path / "cache", tmp_path / "copy")
    monkeypatch.setenv("SNN_DT_CACHE", str(tmp_path / "copy"))
    monkeypatch.setattr(snn_dt.data.load, "build_cached", lambda *a: pytest.fail("read the source"))
    snn_dt.load_dataset(folder)
    assert caplog.text == ""


@pytest.mark.parametrize("way", ["in place", "renamed", "same beginning and end"])
def test_a_source_replaced_by_one_of_the_same_size_and_time_is_read_again(tmp_path, way):
    path = tmp_path / "same.hdf5"

    def put(reward: float) -> int:
        other = tmp_path / "other.hdf5" if way == "renamed" else path
        rewards = np.full(5000, 1.0, np.float32)
        rewards[1000:1500] = reward
        write(other, 5000, ends={4999: "timeouts"}, rewards=rewards)
        os.utime(other, (1.7e9, 1.7e9))
        os.replace(other, path)
        return path.stat().st_size

    sizes = [put(1.0)]
    before = snn_dt.load_dataset(f"d4rl:{path}")
    sizes.append(put(2.0))
    after = snn_dt.load_dataset(f"d4rl:{path}")
    assert sizes[0] == sizes[1]
    assert (before.episode_returns[0], after.episode_returns[0]) == (5000, 5500)
