"""D4RL's files: columns of other kinds and lengths, flags that are none, ends that lack, sizes only declared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.campaign.case import Case, Command, Expect, Result, accepted, loud, refused, sound
from tests.campaign.inputs import d4rl, d4rl_columns, info
from tests.campaign.minari_hdf5 import _bomb, _circle, _external, _group, _references, _soft, _storage, _virtual, _vlen

COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts")


def cases(seed: int) -> Iterator[Case]:
    yield _case("good", {}, accepted(_same))
    yield _case("good-terminals-alone", {"timeouts": None}, sound())
    yield from _columns()
    yield from _flags()
    yield from _ends()
    yield from _values()
    yield from _elsewhere()
    yield from _names()


def _same(result: Result) -> str | None:
    facts = json.loads(result.stdout)
    return None if (facts["episodes"], facts["steps"]) == (6, 60) else f"found {facts['episodes']} episodes"


def _case(name: str, changes: dict[str, Any], expect: Expect, file: str = "hopper_medium-v2") -> Case:
    return Case(name, lambda folder: info(d4rl(folder, None, file, **changes)), expect)


def _spoilt(name: str, spoil: Callable[[Any], Any], expect: Expect) -> Case:
    def make(folder: Path) -> Command:
        dataset = d4rl(folder)
        with h5py.File(dataset.removeprefix("d4rl:"), "r+") as file:
            spoil(file)
        return info(dataset)

    return Case(name, make, expect)


def _columns() -> Iterator[Case]:
    good = d4rl_columns()
    for column in COLUMNS:
        if column != "timeouts":
            yield _case(f"{column}-absent", {column: None}, refused())
        yield _case(f"{column}-short", {column: good[column][:-1]}, refused())
        yield _case(f"{column}-long", {column: np.append(good[column], good[column][-1:], axis=0)}, refused())
        yield _case(f"{column}-one", {column: good[column][:1]}, refused())
        yield _case(f"{column}-none", {column: good[column][:0]}, refused())
        yield _case(f"{column}-scalar", {column: np.float32(1)}, refused())
        yield _case(f"{column}-text", {column: np.full(good[column].shape, b"True")}, refused())
        yield _case(f"{column}-digits", {column: np.full(good[column].shape, b"1")}, refused())
        yield _case(f"{column}-complex", {column: good[column].astype(complex)}, refused())
        yield _case(f"{column}-compound", {column: np.zeros(60, "f4,f4")}, refused())
        yield _case(f"{column}-opaque", {column: np.zeros(60, "V4")}, refused())
        yield _spoilt(f"{column}-group", lambda f, c=column: _group(f, c), refused())
        yield _spoilt(f"{column}-vlen", lambda f, c=column: _vlen(f, c, 60), refused())
        yield _spoilt(f"{column}-references", lambda f, c=column: _references_to_self(f, c), refused())
    for width in (0, 1, 10, 12):
        expect = refused() if width == 0 else sound()  # another task than the name says: taken as nobody's
        yield _case(f"observations-{width}-wide", {"observations": np.zeros((60, width), np.float32)}, expect)
    for width in (0, 2, 4):
        expect = refused() if width == 0 else sound()
        yield _case(f"actions-{width}-wide", {"actions": np.zeros((60, width), np.float32)}, expect)
    yield _case("actions-flat", {"actions": np.zeros(60, np.float32)}, sound())
    yield _case("rewards-wide", {"rewards": np.zeros((60, 2), np.float32)}, refused())
    yield _case("rewards-column", {"rewards": good["rewards"][:, None]}, accepted(_same))
    yield _case("images", {"observations": np.zeros((60, 3, 84, 84), np.uint8)}, refused(), "mine")
    yield _case("images-last", {"observations": np.zeros((60, 84, 84, 3), np.float32)}, refused(), "mine")


def _references_to_self(file: Any, name: str) -> None:
    file.create_group("episode_0")
    _references(file, name, 60)


def _flags() -> Iterator[Case]:
    good = d4rl_columns()
    for column in ("terminals", "timeouts"):
        flag = good[column]
        wrong = {
            "fraction": np.where(flag, 0.3, 0.0),
            "fraction-elsewhere": np.where(flag, 1.0, 0.1),
            "two": np.where(flag, 2, 0),
            "negative": np.where(flag, -1, 0),
            "nan": np.where(flag, 1.0, np.nan),
            "nan-end": np.where(flag, np.nan, 0.0),
            "inf": np.where(flag, np.inf, 0.0),
            "255": np.where(flag, 255, 0).astype(np.uint8),
            "words": np.where(flag, b"True", b""),
            "wide": np.stack([flag, flag], 1),
        }
        for label, values in wrong.items():
            yield _case(f"{column}-{label}", {column: values}, refused())
        for dtype in (np.uint8, np.int64, np.float32, np.float64):
            yield _case(f"{column}-as-{np.dtype(dtype)}", {column: flag.astype(dtype)}, accepted(_same))
        yield _case(f"{column}-as-column", {column: flag[:, None]}, accepted(_same))


def _ends() -> Iterator[Case]:
    """Rows after the last end are dropped, an end that is not marked makes one episode of two: with a word."""
    never, n = np.zeros(60, bool), np.arange(60)
    yield _case("no-ends", {"terminals": never, "timeouts": never}, refused())
    yield _case("end-in-row-0-alone", {"terminals": n == 0, "timeouts": never}, loud())
    for row in (9, 30, 50, 58):
        yield _case(f"tail-after-{row}", {"terminals": n == row, "timeouts": never}, loud(str(59 - row)))
    yield _case("every-row-ends", {"terminals": ~never, "timeouts": never}, sound())
    long = d4rl_columns(2300, 10_000)
    rows = np.arange(2300)
    for label, ends in {"1300": (1299, 2299), "1001": (1000, 2000, 2299), "2300": (2299,)}.items():
        flags = {"terminals": np.zeros(2300, bool), "timeouts": np.isin(rows, ends)}
        terminal = {"terminals": np.isin(rows, ends), "timeouts": np.zeros(2300, bool)}
        for kind, changes in (("timeout", flags), ("terminal", terminal)):
            for version in ("hopper_medium-v2", "hopper_medium_replay-v1", "hopper_medium"):
                make = lambda folder, c=changes, v=version: info(d4rl(folder, long, v, **c))  # noqa: E731
                yield Case(f"longer-than-the-task-{label}-{kind}-{version}", make, loud())
    make = lambda folder: info(d4rl(folder, long, "hopper_medium", timeouts=None, terminals=rows == 100))  # noqa: E731
    yield Case("no-timeouts-cut-at-the-limit", make, sound())
    yield _case("no-timeouts-no-limit", {"timeouts": None}, refused(), "mine")


def _values() -> Iterator[Case]:
    good = d4rl_columns()
    for column in ("observations", "actions", "rewards"):
        for label, value in {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "1e39": 1e39}.items():
            values = good[column].astype(np.float64)
            values[13] = value
            clipped = column == "actions" and label == "1e39"  # as what is a little beyond the bounds, with a word
            yield _case(f"{column}-{label}", {column: values}, loud() if clipped else refused())
    for value in (1.05, -2.0, 100.0):
        values = good["actions"].copy()
        values[13, 1] = value
        yield _case(f"actions-{value}", {"actions": values}, loud("outside"))
    for dtype in (np.int64, np.int8, np.uint8, bool):
        yield _case(f"actions-as-{np.dtype(dtype)}", {"actions": (good["actions"] > 0).astype(dtype)}, loud())
    yield _case("actions-discrete", {"actions": np.arange(60) % 4}, loud(), "mine")
    yield _case("rewards-too-large-a-sum", {"rewards": np.full(60, 3e38, np.float32)}, refused())


def _elsewhere() -> Iterator[Case]:
    for column in COLUMNS:
        for kind, link in {
            "external-link": _external,
            "external-link-absent": lambda f, name: _external(f, name, target="nowhere.hdf5"),
            "external-storage": _storage,
            "external-storage-passwd": lambda f, name: _storage(f, name, "/etc/passwd"),
            "virtual": _virtual,
            "virtual-absent": lambda f, name: _virtual(f, name, "nowhere.hdf5"),
            "circle": _circle,
        }.items():
            yield _spoilt(f"{column}-{kind}", lambda f, c=column, link=link: link(f, name=c), refused())
        yield _spoilt(f"{column}-soft-link", lambda f, c=column: _soft(f, c), sound())
        for label, rows in {"1e9": 10**9, "1e12": 10**12}.items():
            shape = (rows, 11) if column == "observations" else (rows, 3) if column == "actions" else (rows,)
            yield _spoilt(f"{column}-rows-{label}", lambda f, c=column, s=shape: _declare(f, c, s), refused())
    for label, rows in {"1e9": 10**9, "1e12": 10**12}.items():
        yield _spoilt(f"all-rows-{label}", lambda f, n=rows: _declare_all(f, n), refused())
    yield _spoilt("all-rows-3e8-zeros", _bombs, refused())
    yield _spoilt("observations-1e8-wide", lambda f: _declare(f, "observations", (60, 10**8)), refused())


def _declare(file: Any, name: str, shape: tuple[int, ...]) -> None:
    del file[name]
    file.create_dataset(name, shape, np.float32, chunks=True)


def _declare_all(file: Any, rows: int) -> None:
    for name in COLUMNS:
        _declare(file, name, (rows, *file[name].shape[1:]))


def _bombs(file: Any) -> None:
    for name in ("rewards", "terminals", "timeouts"):
        file.create_dataset(f"episode_2/{name}", data=[0])
        _bomb(file, name, 3 * 10**8)
        del file[name]
        file.move(f"episode_2/{name}", name)
    for name in ("observations", "actions"):
        _declare(file, name, (3 * 10**8, *file[name].shape[1:]))


def _names() -> Iterator[Case]:
    texts = {
        "absent": "d4rl:nowhere.hdf5",
        "unknown": "d4rl:hoper-medium-v2",
        "not-here": "d4rl:hopper-medium-v2",
        "empty": "d4rl:",
        "nul": "d4rl:a\0b.hdf5",
        "long": f"d4rl:{'a' * 300}.hdf5",
        "long-id": f"d4rl:{'a' * 5000}",
        "surrogate": "d4rl:\udcff.hdf5",
        "up": "d4rl:../../../etc/passwd",
        "no-user": "d4rl:~nosuchuser/x.hdf5",
        "folder": "d4rl:/tmp",
        "markup": "d4rl:[/red].hdf5",
    }
    for label, text in texts.items():
        yield Case(f"name-{label}", lambda folder, t=text: info(t), refused())
    for label, content in {
        "empty": b"",
        "text": b"hello",
        "zeros": bytes(4096),
        "gzip": b"\x1f\x8b" + bytes(99),
    }.items():

        def make(folder: Path, content: bytes = content) -> Command:
            (folder / "x.hdf5").write_bytes(content)
            return info(f"d4rl:{folder / 'x.hdf5'}")

        yield Case(f"file-{label}", make, refused())
