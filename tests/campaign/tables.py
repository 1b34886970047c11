"""Minari's Arrow and Parquet tables: ragged lists, nulls, other types, parts and episodes that lack."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tests.campaign.case import Case, Command, Expect, Result, accepted, loud, refused, sound
from tests.campaign.inputs import episodes, info, metadata, table_columns, tables, write_metadata, write_table

FORMATS = ("arrow", "parquet")
Change = Callable[[dict[str, Any]], None]


def cases(seed: int) -> Iterator[Case]:
    for data_format in FORMATS:
        for name, change, expect in [*_good(), *_rows(), *_nulls(), *_types(), *_flags()]:
            yield _case(f"{data_format}-{name}", data_format, change, expect)
        yield from _files(data_format)
        yield from _steps(data_format)


def _same(result: Result) -> str | None:
    facts = json.loads(result.stdout)
    right = sum(episode["rewards"].sum() for episode in episodes()) / 5
    good = facts["episodes"] == 5 and facts["steps"] == 23 and abs(facts["return_mean"] - right) < 1e-5
    return None if good else f"found {facts['episodes']} episodes, {facts['steps']} steps, {facts['return_mean']}"


def _case(name: str, data_format: str, change: Change, expect: Expect) -> Case:
    """Episode 2, of 8 steps and 9 rows, is changed."""

    def spoil(index: int, columns: dict[str, Any]) -> None:
        if index == 2:
            change(columns)

    return Case(name, lambda folder: info(tables(folder, data_format, spoil)), expect)


def _set(name: str, make: Callable[[], Any]) -> Change:
    return lambda columns: columns.__setitem__(name, make())


def _list(lengths: list[int], item: Any = 0.5, kind: Any = None) -> Any:
    return pa.array([[item] * n for n in lengths], type=kind or pa.list_(pa.float32()))


def _good() -> Iterator[tuple[str, Change, Expect]]:
    yield "good", lambda columns: None, accepted(_same)
    for label, kind in {"list": pa.list_, "large-list": pa.large_list}.items():
        make = lambda kind=kind: pa.array(episodes()[2]["observations"].tolist(), type=kind(pa.float32()))  # noqa: E731
        yield f"observations-as-{label}", _set("observations", make), accepted(_same)
    yield "more-columns", lambda columns: columns.__setitem__("notes", pa.array(["x"] * 9)), accepted(_same)


def _rows() -> Iterator[tuple[str, Change, Expect]]:
    """Lists of unequal length: flattened and cut anew, every value after the first would shift."""
    ragged = {
        "sum-fits": [3, 5, 4, 4, 4, 4, 4, 4, 4],
        "swapped": [5, 3, 4, 4, 4, 4, 4, 4, 4],
        "ends": [0, 4, 4, 4, 4, 4, 4, 4, 8],
        "one-short": [4, 4, 4, 4, 3, 4, 4, 4, 4],
        "one-long": [4, 4, 4, 4, 5, 4, 4, 4, 4],
        "one-empty": [4, 4, 4, 4, 0, 4, 4, 4, 4],
        "last-row": [4, 4, 4, 4, 4, 4, 4, 4, 3],
        "alternating": [3, 5] * 4 + [4],
        "all-5": [5] * 9,
        "all-3": [3] * 9,
        "all-0": [0] * 9,
    }
    for label, lengths in ragged.items():
        for kind in ("list", "large-list"):
            of = pa.list_ if kind == "list" else pa.large_list
            make = lambda n=lengths, of=of: _list(n, kind=of(pa.float32()))  # noqa: E731
            yield f"ragged-{label}-{kind}", _set("observations", make), refused()
    yield (
        "ragged-actions",
        _set("actions", lambda: _list([1, 2, 0, 1, 1, 1, 1, 1, 1], 1, pa.list_(pa.int64()))),
        refused(),
    )
    yield "wide-actions", _set("actions", lambda: _list([2] * 9, 1, pa.list_(pa.int64()))), refused()
    yield "wide-rewards", _set("rewards", lambda: _list([2] * 9)), refused()
    nested = pa.list_(pa.list_(pa.float32()))
    yield (
        "nested-ragged",
        _set("observations", lambda: pa.array([[[0.0] * 3, [0.0]]] + [[[0.0] * 2] * 2] * 8, nested)),
        refused(),
    )


def _nulls() -> Iterator[tuple[str, Change, Expect]]:
    for at in (0, 4, 7):
        rows: list[Any] = episodes()[2]["observations"].tolist()
        hole, gone = [list(row) for row in rows], list(rows)
        hole[at][1], gone[at] = None, None
        kind = pa.list_(pa.float32())
        yield f"null-observation-{at}", _set("observations", lambda v=gone, k=kind: pa.array(v, k)), refused()
        yield f"null-number-{at}", _set("observations", lambda v=hole, k=kind: pa.array(v, k)), refused()
        fixed = pa.list_(pa.float32(), 4)
        yield f"null-fixed-{at}", _set("observations", lambda v=gone, k=fixed: pa.array(v, k)), refused()
        yield f"null-fixed-number-{at}", _set("observations", lambda v=hole, k=fixed: pa.array(v, k)), refused()
        for column, good in (("actions", 1), ("rewards", 1.0), ("terminations", False), ("truncations", False)):
            values = [None if i == at else good for i in range(9)]
            yield f"null-{column}-{at}", _set(column, lambda v=values: pa.array(v)), refused()
    for column in ("observations", "actions", "rewards", "terminations", "truncations"):
        yield f"all-null-{column}", _set(column, lambda: pa.nulls(9)), refused()


def _types() -> Iterator[tuple[str, Change, Expect]]:
    texts = pa.array(["1"] * 9)
    wrong = {
        "text": texts,
        "binary": pa.array([b"1"] * 9),
        "dictionary": texts.dictionary_encode(),
        "timestamp": pa.array(range(9), pa.timestamp("s")),
        "struct": pa.array([{"a": 1.0}] * 9),
        "map": pa.array([[("a", 1.0)]] * 9, pa.map_(pa.string(), pa.float64())),
        "duration": pa.array(range(9), pa.duration("s")),
    }
    for column in ("observations", "actions", "rewards", "terminations", "truncations"):
        for label, values in wrong.items():
            yield f"{column}-{label}", _set(column, lambda v=values: v), refused()
        yield f"{column}-absent", lambda columns, c=column: columns.pop(c), refused()
    yield (
        "observations-list-of-text",
        _set("observations", lambda: _list([4] * 9, "a", pa.list_(pa.string()))),
        refused(),
    )
    for label, value in {"nan": float("nan"), "inf": float("inf"), "1e39": 1e39}.items():
        rows = episodes()[2]["observations"].astype(np.float64)
        rows[4, 1] = value
        make = lambda v=rows: pa.array(v.tolist(), pa.list_(pa.float64()))  # noqa: E731
        yield f"observations-{label}", _set("observations", make), refused()
        yield f"rewards-{label}", _set("rewards", lambda v=value: pa.array([1.0, v] + [1.0] * 7)), refused()
    for label, value in {"-1": -1, "2": 2, "0.5": 0.5, "nan": float("nan")}.items():
        yield f"actions-{label}", _set("actions", lambda v=value: pa.array([v, *[0.0] * 8])), refused()


def _flags() -> Iterator[tuple[str, Change, Expect]]:
    end = [False] * 7 + [True, True]
    wrong = {
        "fraction": [0.3 if x else 0.0 for x in end],
        "fraction-before": [0.3, *map(float, end[1:])],
        "two": [2 * x for x in end],
        "negative": [-int(x) for x in end],
        "nan": [float("nan") if x else 0.0 for x in end],
        "words": ["True" if x else "False" for x in end],
        "middle": [i in (3, 7, 8) for i in range(9)],
        "first": [i == 0 for i in range(9)],
        "all": [True] * 9,
        "lists": [[x] for x in end],
    }
    for column in ("terminations", "truncations"):
        for label, values in wrong.items():
            if column == "truncations" and label == "lists":
                continue
            expect = sound() if label == "lists" else refused()
            yield f"{column}-{label}", _set(column, lambda v=values: pa.array(v)), expect
    for kind in (pa.uint8(), pa.int64(), pa.float64()):
        make = lambda k=kind: pa.array([int(x) for x in end], k)  # noqa: E731
        yield f"terminations-as-{kind}", _set("terminations", make), accepted(_same)


def _files(data_format: str) -> Iterator[Case]:
    part = f"part-0.{data_format}"
    changes: dict[str, tuple[Callable[[Path], Any], Expect]] = {
        "part-absent": (lambda data: (data / "2" / part).unlink(), refused()),
        "part-empty": (lambda data: (data / "2" / part).write_bytes(b""), refused()),
        "part-text": (lambda data: (data / "2" / part).write_text("hello"), refused()),
        "part-of-other-format": (lambda data: _other_format(data, data_format), refused()),
        "episode-absent": (lambda data: _remove(data / "2"), refused()),
        "episode-last-absent": (lambda data: _remove(data / "4"), refused()),
        "episode-more": (lambda data: _copy(data / "0", data / "5"), loud()),
        "episode-renamed": (lambda data: (data / "2").rename(data / "02"), refused()),
        "metadata-absent": (lambda data: (data / "2" / "metadata.json").unlink(), sound()),
        "part-twice": (lambda data: _copy(data / "2" / part, data / "2" / f"part-1.{data_format}"), loud()),
        "part-link-outside": (lambda data: _link(data / "2" / part, data.parent / "outside"), sound()),
        "part-link-passwd": (lambda data: _passwd(data / "2" / part), refused()),
        "two-parts": (lambda data: _split(data / "2", data_format), accepted(_same)),
    }
    for name, (change, expect) in changes.items():

        def make(folder: Path, change: Callable[[Path], Any] = change) -> Command:
            path = tables(folder, data_format)
            change(path / "data")
            return info(path)

        yield Case(f"{data_format}-{name}", make, expect)


def _other_format(data: Path, data_format: str) -> None:
    other = "arrow" if data_format == "parquet" else "parquet"
    write_table(data / "2", other, table_columns(episodes()[2]), 8)
    (data / "2" / f"part-0.{other}").replace(data / "2" / f"part-0.{data_format}")


def _remove(path: Path) -> None:
    import shutil

    shutil.rmtree(path)


def _copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)


def _link(path: Path, target: Path) -> None:
    path.rename(target)
    path.symlink_to(target)


def _passwd(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _split(folder: Path, data_format: str) -> None:
    columns = pa.table(table_columns(episodes()[2]))
    for number, rows in enumerate((columns.slice(0, 4), columns.slice(4))):
        write_table(folder, data_format, {name: rows[name] for name in rows.column_names}, 8)
        (folder / f"part-0.{data_format}").rename(folder / f"kept-{number}")
    for number in (0, 1):
        (folder / f"kept-{number}").rename(folder / f"part-{number}.{data_format}")


def _steps(data_format: str) -> Iterator[Case]:
    """`total_steps` of an episode's own metadata, which has 8 steps."""
    values = {"inf": float("inf"), "nan": float("nan"), "4.7": 4.7, "-1": -1, "0": 0, "7": 7, "9": 9, "99": 99,
              "1": 1, "10^30": 10**30, "text": "many", "list": [], "object": {}, "true": True, "deep": None,
              "null": None}  # fmt: skip
    for label, value in values.items():

        def make(folder: Path, value: Any = value, label: str = label) -> Command:
            path = tables(folder, data_format)
            file = path / "data" / "2" / "metadata.json"
            text = json.dumps({"id": 2, "total_steps": value})
            file.write_text(text if label != "deep" else "[" * 100_000)
            return info(path)

        yield Case(f"{data_format}-steps-{label}", make, loud() if label in ("7", "9", "1") else refused())
    for label, value in {"fewer": 4, "more": 6, "inf": float("inf"), "4.7": 4.7}.items():

        def count(folder: Path, value: Any = value) -> Command:
            path = tables(folder, data_format)
            write_metadata(path / "data", metadata(data_format) | {"total_episodes": value})
            return info(path)

        yield Case(f"{data_format}-episodes-{label}", count, loud())
