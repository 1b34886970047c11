"""Datasets larger than memory are read without read-ahead; the others are left to the kernel."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from snn_dt.data import mmap_advice


def advice(monkeypatch, tmp_path, free: float) -> list[int]:
    given: list[int] = []
    arrays = []
    for name in ("a", "b"):
        np.save(tmp_path / f"{name}.npy", np.zeros((100, 10), np.float32))
        array = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        array._mmap = type("Map", (), {"madvise": lambda self, what: given.append(what)})()
        arrays.append(array)
    monkeypatch.setattr(mmap_advice, "available_memory", lambda: free)
    mmap_advice.read_at_random(*arrays, np.zeros(10**6))
    return given


@pytest.mark.skipif(not hasattr(mmap, "MADV_RANDOM"), reason="this system takes no such advice")
def test_read_ahead_is_switched_off_for_what_needs_more_than_half_the_memory(monkeypatch, tmp_path):
    assert advice(monkeypatch, tmp_path, free=15_999) == [mmap.MADV_RANDOM] * 2
    assert advice(monkeypatch, tmp_path, free=16_000) == []


@pytest.mark.parametrize(
    ("group", "file", "path"),
    [("0::/a/b\n", "memory.max", "a"), ("4:memory:/a/b\n3:cpu:/\n", "memory.limit_in_bytes", "memory/a/b")],
)
def test_the_limit_of_a_control_group_or_of_one_above_it_counts(monkeypatch, tmp_path, group, file, path):
    (tmp_path / path).mkdir(parents=True)
    (tmp_path / path / file).write_text("123456\n")
    (tmp_path / path.split("/")[0] / file).write_text("max\n" if path != "a" else "123456\n")
    real = Path.read_text
    texts = {"/proc/self/cgroup": group, "/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:  1000 kB\n"}
    monkeypatch.setattr(Path, "read_text", lambda self: texts.get(str(self)) or real(self))
    monkeypatch.setattr(mmap_advice, "CGROUPS", tmp_path)
    assert mmap_advice.available_memory() == 123456
    texts["/proc/meminfo"] = "MemAvailable: 10 kB\n"
    assert mmap_advice.available_memory() == 10240
