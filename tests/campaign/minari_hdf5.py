"""Minari's main_data.hdf5: data that lie elsewhere, are of another kind or length, or that nobody can learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.campaign.case import Case, Command, Expect, Result, accepted, loud, refused, sound
from tests.campaign.inputs import BOX, OBSERVATIONS, episodes, hdf5, info, metadata, replace

COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations")
Spoil = Callable[[Any], None]


def cases(seed: int) -> Iterator[Case]:
    yield _case("good", lambda file: None, accepted(_same))
    yield from _elsewhere()
    yield from _flags()
    yield from _lengths()
    yield from _kinds()
    yield from _values()
    yield from _sizes()
    yield from _groups()
    yield from _meanings()


def _same(result: Result) -> str | None:
    facts = json.loads(result.stdout)
    right = sum(episode["rewards"].sum() for episode in episodes()) / 5
    good = facts["episodes"] == 5 and facts["steps"] == 23 and abs(facts["return_mean"] - right) < 1e-5
    return None if good else f"found {facts['episodes']} episodes, {facts['steps']} steps, {facts['return_mean']}"


def _case(name: str, spoil: Spoil, expect: Expect, facts: Any = None, box: bool = False, command: str = "") -> Case:
    def make(folder: Path) -> Command:
        path = hdf5(folder, facts, box, spoil)
        return Command(("data", "cache", str(path))) if command == "cache" else info(path)

    return Case(name, make, expect)


def _elsewhere() -> Iterator[Case]:
    """Columns, groups and files that are links to what lies outside the file."""
    for column in COLUMNS:
        name = f"episode_1/{column}"
        for kind, link in {
            "external-link": _external,
            "external-link-absent": partial(_external, target="nowhere.hdf5"),
            "external-storage": _storage,
            "external-storage-passwd": partial(_storage, path="/etc/passwd"),
            "virtual": _virtual,
            "virtual-absent": partial(_virtual, target="nowhere.hdf5"),
            "virtual-own": partial(_virtual, target="."),
        }.items():
            yield _case(f"{column}-{kind}", partial(link, name=name), refused())
        yield _case(f"{column}-soft-link", partial(_soft, name=name), sound())
        yield _case(f"{column}-soft-link-circle", partial(_circle, name=name), refused())
        yield _case(f"{column}-dangling", lambda f, n=name: _put(f, n, h5py.SoftLink("/nowhere")), refused())
    yield _case("episode-external-link", partial(_external, name="episode_2", inside="episode_2"), refused())
    yield _case("episode-circle", lambda f: _put(f, "episode_2", h5py.SoftLink("/episode_2")), refused())
    yield _case("infos-external-link", partial(_external, name="episode_2/infos"), sound())
    yield _case(
        "all-external-links", lambda f: [_external(f, f"episode_{i}", f"episode_{i}") for i in range(5)], refused()
    )
    yield _case("external-cache", partial(_external, name="episode_1/rewards"), refused(), command="cache")


def _put(file: Any, name: str, link: Any) -> None:
    del file[name]
    file[name] = link


def _external(file: Any, name: str, inside: str = "", target: str = "other.hdf5") -> None:
    if target == "other.hdf5" and not (other := Path(file.filename).with_name(target)).exists():
        with h5py.File(other, "w") as copy:
            for key in file:
                file.copy(key, copy)
    _put(file, name, h5py.ExternalLink(target, "/" + (inside or name)))


def _storage(file: Any, name: str, path: str = "") -> None:
    values = file[name][()]
    if not path:
        raw = Path(file.filename).with_name("raw.bin")
        raw.write_bytes(values.tobytes())
        path = str(raw)
    del file[name]
    file.create_dataset(name, values.shape, values.dtype, external=[(path, 0, values.nbytes)])


def _virtual(file: Any, name: str, target: str = "other.hdf5") -> None:
    values = file[name][()]
    if target == "other.hdf5":
        with h5py.File(Path(file.filename).with_name(target), "a") as other:
            other[name] = values
    if target == ".":
        file["kept"] = values
    del file[name]
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[...] = h5py.VirtualSource(target, "kept" if target == "." else name, values.shape)
    file.create_virtual_dataset(name, layout)


def _soft(file: Any, name: str) -> None:
    file.move(name, "kept")
    file[name] = h5py.SoftLink("/kept")


def _circle(file: Any, name: str) -> None:
    del file[name]
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")
    file[name] = h5py.SoftLink("/a")


def _flags() -> Iterator[Case]:
    """Episode 2 has 8 steps and ends with a termination."""
    end = np.arange(8) == 7
    wrong: dict[str, Any] = {
        "text": np.where(end, b"True", b"False"),
        "digits": np.where(end, b"1", b"0"),
        "fraction": np.where(end, 0.3, 0.0),
        "fraction-before": np.where(end, 1.0, 0.2),
        "two": np.where(end, 2, 0),
        "negative": np.where(end, -1, 0),
        "nan": np.where(end, 1.0, np.nan),
        "nan-end": np.where(end, np.nan, 0.0),
        "inf": np.where(end, np.inf, 0.0),
        "complex": np.where(end, 1j, 0),
        "short": end[1:],
        "long": np.append(end, False),
        "long-true": np.append(end, True),
        "one": np.array([True]),
        "none": np.array([], bool),
        "scalar": np.bool_(True),
        "wide": np.stack([end, end], 1),
        "middle": end | (np.arange(8) == 3),
        "all": np.ones(8, bool),
        "first": np.arange(8) == 0,
        "compound": np.zeros(8, "f4,f4"),
    }
    for column in ("terminations", "truncations"):
        for kind, values in wrong.items():
            yield _case(f"{column}-{kind}", lambda f, c=column, v=values: replace(f, f"episode_2/{c}", v), refused())
        yield _case(f"{column}-absent", lambda f, c=column: f.__delitem__(f"episode_2/{c}"), refused())
        yield _case(f"{column}-group", lambda f, c=column: _group(f, f"episode_2/{c}"), refused())
        column_of = {"uint8": np.uint8, "int64": np.int64, "float32": np.float32, "float64": np.float64}
        for kind, dtype in column_of.items():
            yield _case(f"{column}-as-{kind}", partial(_retype, name=column, dtype=dtype), accepted(_same))
    yield _case("flags-none-set", lambda f: replace(f, "episode_2/terminations", np.zeros(8, bool)), sound())
    yield _case("flags-both-set", lambda f: replace(f, "episode_2/truncations", end), sound())


def _group(file: Any, name: str) -> None:
    del file[name]
    file.create_group(name)


def _retype(file: Any, name: str, dtype: Any) -> None:
    for index in range(5):
        replace(file, f"episode_{index}/{name}", file[f"episode_{index}/{name}"][()].astype(dtype))


def _lengths() -> Iterator[Case]:
    for column, width in (("observations", (4,)), ("actions", ()), ("rewards", ())):
        right = 9 if column == "observations" else 8
        for length in (0, 1, right - 2, right + 1, right + 2, 1000):
            values = np.zeros((length, *width), np.int64 if column == "actions" else np.float32)
            name = f"episode_2/{column}"
            yield _case(f"{column}-of-{length}", lambda f, n=name, v=values: replace(f, n, v), refused())
    shorter = np.zeros((8, 4), np.float32)
    yield _case("observations-of-T", lambda f: replace(f, "episode_2/observations", shorter), accepted())
    for width in ((0,), (3,), (5,), (4, 2), (), (2, 2, 2)):
        values = np.zeros((9, *width), np.float32)
        name = "x".join(map(str, width)) or "none"
        yield _case(f"observations-wide-{name}", lambda f, v=values: replace(f, "episode_2/observations", v), refused())
    for width in ((2,), (0,), (1, 2)):
        values = np.zeros((8, *width), np.int64)
        name = "x".join(map(str, width))
        yield _case(f"actions-wide-{name}", lambda f, v=values: replace(f, "episode_2/actions", v), refused())
    yield _case("rewards-wide", lambda f: replace(f, "episode_2/rewards", np.zeros((8, 2))), refused())


def _kinds() -> Iterator[Case]:
    for column in ("observations", "actions", "rewards"):
        name, shape = f"episode_2/{column}", (9, 4) if column == "observations" else (8,)
        wrong: dict[str, Any] = {
            "text": np.full(shape, b"xy"),
            "digits": np.full(shape, b"1"),
            "complex": np.zeros(shape, complex),
            "compound": np.zeros(shape, "f4,f4"),
            "opaque": np.zeros(shape, "V4"),
            "scalar": np.float32(1),
        }
        for kind, values in wrong.items():
            yield _case(f"{column}-{kind}", lambda f, n=name, v=values: replace(f, n, v), refused())
        yield _case(f"{column}-vlen", partial(_vlen, name=name, n=shape[0]), refused())
        yield _case(f"{column}-references", partial(_references, name=name, n=shape[0]), refused())
        yield _case(f"{column}-null", lambda f, n=name: replace(f, n, h5py.Empty("f4")), refused())
        yield _case(f"{column}-group", lambda f, n=name: _group(f, n), refused())
        yield _case(f"{column}-absent", lambda f, n=name: f.__delitem__(n), refused())
        yield _case(f"{column}-type", lambda f, n=name: _put(f, n, np.dtype("f4")), refused())
    for dtype in (np.float16, np.float64, np.int8, ">f4"):
        expect = sound() if dtype in (np.int8, np.float16) else accepted()
        yield _case(f"observations-{np.dtype(dtype).str}", partial(_retype, name="observations", dtype=dtype), expect)
        yield _case(f"rewards-{np.dtype(dtype).str}", partial(_retype, name="rewards", dtype=dtype), sound())
    for dtype in (np.uint8, np.int32, np.float64):
        yield _case(f"actions-{np.dtype(dtype).str}", partial(_retype, name="actions", dtype=dtype), accepted(_same))


def _vlen(file: Any, name: str, n: int) -> None:
    del file[name]
    rows = file.create_dataset(name, (n,), h5py.vlen_dtype(np.float32))
    for index in range(n):
        rows[index] = np.zeros(index % 3 + 3, np.float32)


def _references(file: Any, name: str, n: int) -> None:
    del file[name]
    file.create_dataset(name, (n,), h5py.ref_dtype)[:] = file["episode_0"].ref


def _values() -> Iterator[Case]:
    for column in ("observations", "rewards"):
        for label, value in {"nan": np.nan, "inf": np.inf, "-inf": -np.inf, "1e39": 1e39, "-1e300": -1e300}.items():
            yield _case(f"{column}-{label}", partial(_value, name=column, value=value), refused())
    for label, value in {"-1": -1, "2": 2, "0.5": 0.5, "nan": np.nan, "inf": np.inf, "1e300": 1e300}.items():
        yield _case(f"actions-{label}", partial(_value, name="actions", value=value), refused())
    for label, value in {"1.1": 1.1, "nan": np.nan, "-5": -5.0, "inf": np.inf}.items():
        spoil = partial(_value, name="actions", value=value)
        yield _case(f"box-actions-{label}", spoil, refused(), metadata(box=True), box=True)
    yield _case("rewards-sum-too-large", partial(_value, name="rewards", value=3e38, every=True), refused())


def _value(file: Any, name: str, value: float, every: bool = False) -> None:
    column = f"episode_2/{name}"
    values = file[column][()].astype(np.float64)
    values[slice(None) if every else 4] = value
    replace(file, column, values)


def _sizes() -> Iterator[Case]:
    """Files of kilobytes that declare gigabytes: one line, soon, without taking the memory."""
    huge = {"rows-1e9": (10**9, 4), "rows-1e12": (10**12, 4), "wide-1e8": (9, 10**8), "wide-1e10": (9, 10**10)}
    for label, shape in huge.items():
        for storage, options in {"unwritten": {}, "chunked": {"chunks": True}, "gzip": {"compression": "gzip"}}.items():
            spoil = partial(_declare, name="observations", shape=shape, options=options)
            yield _case(f"observations-{label}-{storage}", spoil, refused())
    for column in ("actions", "rewards", "terminations"):
        yield _case(f"{column}-rows-1e9", partial(_declare, name=column, shape=(10**9,), options={}), refused())
    yield _case("rewards-rows-3e8-zeros", partial(_bomb, name="rewards", rows=3 * 10**8), refused())
    yield _case("terminations-rows-3e8-zeros", partial(_bomb, name="terminations", rows=3 * 10**8), refused())
    everything = metadata() | {"total_episodes": 10**9}
    yield _case("episodes-1e9", lambda f: None, refused(), everything)


def _declare(file: Any, name: str, shape: tuple[int, ...], options: dict[str, Any]) -> None:
    replace(file, f"episode_2/{name}", None, shape=shape, dtype=np.float32, **options)


def _bomb(file: Any, name: str, rows: int) -> None:
    """Zeros that gzip has made a thousandth of what they are; the compressed chunk is written again and again."""
    import zlib

    chunk = 1 << 24
    del file[f"episode_2/{name}"]
    column = file.create_dataset(f"episode_2/{name}", (rows,), np.float32, chunks=(chunk,), compression="gzip")
    packed = zlib.compress(bytes(4 * chunk), 9)
    for first in range(0, rows, chunk):
        column.id.write_direct_chunk((first,), packed)


def _groups() -> Iterator[Case]:
    yield _case("episode-absent", lambda f: f.__delitem__("episode_2"), refused())
    yield _case("episode-last-absent", lambda f: f.__delitem__("episode_4"), refused())
    yield _case("episode-more", lambda f: f.copy("episode_0", "episode_5"), loud())
    yield _case("episode-renamed", lambda f: f.move("episode_2", "episode_02"), refused())
    yield _case("episode-as-column", lambda f: replace(f, "episode_2", np.zeros(5)), refused())
    yield _case("empty", lambda f: [f.__delitem__(key) for key in list(f)], refused())
    yield _case("more-groups", lambda f: f.create_group("notes"), sound(_same))
    nested = {"type": "Dict", "subspaces": {"a": OBSERVATIONS, "b": OBSERVATIONS}}
    facts = metadata() | {"observation_space": json.dumps(nested)}
    yield _case("dict-space-on-flat-data", lambda f: None, refused(), facts)
    unequal = {"a": (9, 4), "b": (8, 4)}
    yield _case("dict-of-unequal-lengths", partial(_nest, shapes=unequal), refused(), facts)
    yield _case("dict-lacks-one", partial(_nest, shapes={"a": (9, 4)}), refused(), facts)


def _nest(file: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    for index, episode in enumerate(episodes()):
        del file[f"episode_{index}/observations"]
        for key, shape in shapes.items():
            rows = len(episode["rewards"]) + shape[0] - 8
            file[f"episode_{index}/observations/{key}"] = np.zeros((rows, shape[1]), np.float32)


def _meanings() -> Iterator[Case]:
    """What can be read and is not what it seems to be."""
    yield _case(
        "box-actions-as-integers", partial(_retype, name="actions", dtype=np.int64), loud(), metadata(box=True), True
    )
    narrow = metadata(box=True) | {"action_space": json.dumps(BOX | {"low": [-1.0, 0.5], "high": [1.0, 0.5]})}
    yield _case("box-no-width", partial(_fix_action, value=0.5), loud(), narrow, True)
    absurd = metadata(box=True) | {"action_space": json.dumps(BOX | {"low": [-3e38] * 2, "high": [3e38] * 2})}
    yield _case("box-absurd-width", lambda f: None, loud(), absurd, True)
    for label, shape in {"first": (4, 84, 84), "last": (84, 84, 4), "grey": (84, 84), "stack": (4, 3, 64, 64)}.items():
        for dtype in ("uint8", "float32"):
            space = {"type": "Box", "dtype": dtype, "shape": list(shape), "low": 0, "high": 255}
            facts = metadata() | {"observation_space": json.dumps(space)}
            spoil = partial(_images, shape=shape, dtype=dtype)
            yield _case(f"images-{label}-{dtype}", spoil, refused(), facts)
    spec = json.dumps(json.loads(metadata()["env_spec"]) | {"max_episode_steps": 5})
    limited = metadata() | {"env_spec": spec, "eval_env_spec": spec}
    yield _case("longer-than-the-limit", lambda f: None, loud(), limited)
    for label, scale, offset in (("tiny-spread", 3e-7, 0.0), ("large-offset", 0.2, 5e6), ("both", 1e-3, 1e9)):
        spoil = partial(_scale, scale=scale, offset=offset)

        def make(folder: Path, spoil: Any = spoil, scale: float = scale) -> Command:
            arguments = (str(hdf5(folder, spoil=spoil)), scale)
            return Command(function="tests.campaign.minari_hdf5:spread_is_kept", arguments=arguments)

        yield Case(f"observations-{label}", make, sound())


def _fix_action(file: Any, value: float) -> None:
    for index in range(5):
        file[f"episode_{index}/actions"][:, 1] = value


def _images(file: Any, shape: tuple[int, ...], dtype: str) -> None:
    for index, episode in enumerate(episodes()):
        replace(file, f"episode_{index}/observations", np.zeros((len(episode["rewards"]) + 1, *shape), dtype))


def _scale(file: Any, scale: float, offset: float) -> None:
    for index, episode in enumerate(episodes()):
        replace(file, f"episode_{index}/observations", episode["observations"].astype(np.float64) * scale + offset)


def spread_is_kept(folder: Path, dataset: str, scale: float) -> int:
    """Read a dataset; its windows have to hold normalised states, or the user is told that they cannot."""
    import sys

    from snn_dt.data import WindowSampler, load_dataset
    from snn_dt.errors import DataError

    try:
        trajectories = load_dataset(dataset)
    except DataError as error:
        print(f"snn-dt: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    batch = WindowSampler(trajectories, 8, rtg_scale=1.0).batch(0, 0, 64)
    spread = float(batch.states[batch.attention_mask].std())
    if not 0.5 < spread < 2 and not Path(".stderr").read_text():
        raise AssertionError(f"states of deviation {spread}, state_std {trajectories.state_std}, and no word")
    return 0
