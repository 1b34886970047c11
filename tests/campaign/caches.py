"""The cache of flat arrays, damaged in every file: it is built again, and what is read is what it was."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.campaign.case import Case, Command, accepted
from tests.campaign.inputs import episodes, hdf5

ARRAYS = (
    *("observations", "actions", "rewards", "returns_to_go", "episode_offsets"),
    *("terminated", "truncated", "state_mean", "state_std"),
)


def cases(seed: int) -> Iterator[Case]:
    draw = random.Random(f"caches {seed}")
    for name in (*ARRAYS, "meta"):
        file = f"{name}.json" if name == "meta" else f"{name}.npy"
        for damage in ("absent", "empty", "half", "header", "zeros", "text", "folder", "last-byte", "longer"):
            yield _case(f"{name}-{damage}", file, damage)
        for _ in range(3):
            at = draw.randrange(2**32)
            yield _case(f"{name}-flip-{at}", file, f"flip:{at}")
    for name in ARRAYS:
        for damage in ("short", "long", "none", "other-type", "scalar", "pickle", "nan", "transposed"):
            yield _case(f"{name}-{damage}", f"{name}.npy", damage)
    for key in ("dataset_id", "observation_space", "action_space", "env_id", "env_spec", "time_limit", "reference",
                "reward_mode", "checksum"):  # fmt: skip
        for value in ("absent", "null", "number", "list", "deep"):
            if (key, value) in (
                ("env_id", "null"),
                ("env_spec", "null"),
                ("time_limit", "null"),
                ("reference", "null"),
            ):
                continue
            yield _case(f"meta-{key}-{value}", "meta.json", f"key:{key}:{value}")
    for damage in ("extra-key", "extra-reference", "list", "deep", "null", "huge"):
        yield _case(f"meta-as-{damage}", "meta.json", f"meta:{damage}")
    for a, b in (("rewards", "returns_to_go"), ("terminated", "truncated"), ("state_mean", "state_std"),
                 ("observations", "actions"), ("rewards", "observations"), ("episode_offsets",
                 "terminated")):  # fmt: skip
        yield _case(f"swapped-{a}-{b}", f"{a}.npy", f"swap:{b}.npy")
    for damage in ("offsets-beyond", "offsets-back", "offsets-negative", "offsets-first", "offsets-twice"):
        yield _case(damage, "episode_offsets.npy", damage)
    for kind in ("replaced", "replaced-in-place", "replaced-by-rename"):
        command = Command(function="tests.campaign.caches:replace_and_reopen", arguments=(kind,))
        yield Case(f"source-{kind}-same-size-and-time", lambda folder, c=command: _with_data(folder, c), accepted())


def _case(name: str, file: str, damage: str) -> Case:
    command = Command(function="tests.campaign.caches:damage_and_reopen", arguments=(file, damage))
    return Case(name, lambda folder: _with_data(folder, command), accepted())


def _with_data(folder: Path, command: Command) -> Command:
    hdf5(folder)
    return command


def _info() -> tuple[int, dict[str, Any]]:
    from snn_dt.cli.main import main

    with contextlib.redirect_stdout(io.StringIO()) as out:
        status = main(["data", "info", "set", "--json"])
    return status, json.loads(out.getvalue() or "{}")


def _values() -> dict[str, Any]:
    from snn_dt.data import load_dataset

    trajectories = load_dataset("set")
    return {name: np.array(getattr(trajectories, name)).tolist() for name in ARRAYS}


def damage_and_reopen(folder: Path, file: str, damage: str) -> int:
    """Build a cache, damage it, read the dataset twice more: what is said and held has to stay the same."""
    _, before = _info()
    values = _values()
    cached = [path for path in (folder / "cache" / "datasets").iterdir() if not path.name.startswith(".")]
    assert len(cached) == 1, cached
    spoil(cached[0] / file, damage)
    for _ in range(2):
        status, after = _info()
        if status:
            return status
        assert after == before, (before, after)
        assert _values() == values
    left = [path.name for path in (folder / "cache" / "datasets").iterdir()]
    assert not any(name.startswith(".") for name in left), left
    return 0


def spoil(path: Path, damage: str) -> None:
    """Damage one file of a cache."""
    data = path.read_bytes()
    kind, _, rest = damage.partition(":")
    plain: dict[str, Callable[[], Any]] = {
        "absent": path.unlink,
        "empty": lambda: path.write_bytes(b""),
        "half": lambda: path.write_bytes(data[: len(data) // 2]),
        "header": lambda: path.write_bytes(data[:20]),
        "zeros": lambda: path.write_bytes(data[:128] + bytes(len(data) - 128)),
        "text": lambda: path.write_text("hello"),
        "folder": lambda: (path.unlink(), path.mkdir()),
        "last-byte": lambda: path.write_bytes(data[:-1]),
        "longer": lambda: path.write_bytes(data + bytes(16)),
    }
    if kind in plain:
        plain[kind]()
    elif kind == "flip":
        changed, at = bytearray(data), int(rest)
        changed[at % len(changed)] ^= 1 << at % 8
        path.write_bytes(bytes(changed))
    elif kind == "swap":
        other = path.with_name(rest)
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif path.suffix == ".json":
        _spoil_meta(path, kind, rest)
    else:
        _spoil_array(path, kind)


def _spoil_meta(path: Path, kind: str, rest: str) -> None:
    meta = json.loads(path.read_text())
    if kind == "key":
        key, value = rest.split(":")
        meta[key] = {"absent": 0, "null": None, "number": 5, "list": [1], "deep": "[" * 100_000}[value]
        if value == "absent":
            del meta[key]
    elif rest == "extra-key":
        meta["more"] = 1
    elif rest == "extra-reference":
        meta["reference"]["more"] = 1
    text = {"list": "[]", "deep": "[" * 100_000, "null": "null", "huge": '{"checksum": ' + "9" * 5000 + "}"}.get(rest)
    path.write_text(text or json.dumps(meta))


def _spoil_array(path: Path, kind: str) -> None:
    array = np.load(path)
    offsets = {"beyond": [0, 6, 9, 17, 18, 99], "back": [0, 6, 3, 17, 18, 23], "negative": [0, -6, 9, 17, 18, 23],
               "first": [1, 6, 9, 17, 18, 23], "twice": [0, 6, 6, 17, 18, 23]}  # fmt: skip
    if kind.startswith("offsets-"):
        changed = np.array(offsets[kind.removeprefix("offsets-")], array.dtype)
    elif kind == "nan":
        changed = array.copy()
        changed.reshape(-1)[-1] = np.nan if array.dtype.kind == "f" else 1 - changed.reshape(-1)[-1]
    elif kind == "pickle":
        np.save(path, np.array([None, {}], dtype=object), allow_pickle=True)
        return
    elif kind == "other-type":
        changed = array.astype(np.float64 if array.dtype != np.float64 else np.float32)
    else:
        changed = {"short": array[:-1], "long": np.append(array, array[-1:], axis=0), "none": array[:0],
                   "scalar": array.reshape(-1)[0], "transposed": array[::-1].T.copy()}[kind]  # fmt: skip
    np.save(path, changed)


def replace_and_reopen(folder: Path, kind: str) -> int:
    """Replace the source by another of equal size and modification time: the new one is read."""
    import h5py

    file = folder / "set" / "data" / "main_data.hdf5"
    _, before = _info()
    stat = file.stat()
    other = file.with_name("other")
    shutil.copyfile(file, other)
    with h5py.File(other, "r+") as content:
        for index, episode in enumerate(episodes()):
            content[f"episode_{index}/rewards"][...] = episode["rewards"] * 2
    if kind == "replaced-in-place":
        file.write_bytes(other.read_bytes())
        other.unlink()
    else:
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        if kind == "replaced":
            file.unlink()
        other.replace(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    status, after = _info()
    assert status or abs(after["return_mean"] - 2 * before["return_mean"]) < 1e-4, "old rewards were read"
    return status
