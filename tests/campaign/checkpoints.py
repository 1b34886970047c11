"""Checkpoints: every field of a wrong kind, names that would import or open something, tensors that do not fit."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.campaign.case import Case, Command, Expect, Result, accepted, refused, sound
from tests.campaign.inputs import CARTPOLE, checkpoint, checkpoint_template, edit_json, evaluate
from tests.campaign.minari_metadata import DEEP, EVIL, HUGE

INF, NAN = float("inf"), float("nan")
VALUES: dict[str, Any] = {
    "null": None, "true": True, "-1": -1, "0": 0, "1.5": 1.5, "inf": INF, "nan": NAN, "1e300": 1e300, "10^30": 10**30,
    "text": "x", "empty": "", "list": [], "lists": [[1]], "object": {}, "surrogate": "\ud800", "nul": "a\0b",
    "markup": "[/red]", "long": "a" * 100_000,
}  # fmt: skip
Change = Callable[[Path], Any]


def cases(seed: int) -> Iterator[Case]:
    yield _case("good", lambda path: None, accepted(_results))
    yield from _fields()
    yield from _formats()
    yield from _texts()
    yield from _environments()
    yield from _provenance()
    yield from _tensors()
    yield from _folders()


def _case(name: str, change: Change, expect: Expect, *more: str) -> Case:
    def make(folder: Path) -> Command:
        (folder / "evilmod.py").write_text("open('CANARY', 'w').write('imported')\nEnv = object\n")
        path = checkpoint(folder)
        change(path)
        return evaluate(path, "--json", str(folder / "results.json"), *more)

    return Case(name, make, expect)


def _results(result: Result) -> str | None:
    file = result.folder / "results.json"
    if not file.is_file():
        return "no results were written"
    rows = json.loads(file.read_text())
    return None if rows and all(row["episodes"] == 1 for row in rows) else f"results are {str(rows)[:100]}"


def _edit(where: str, value: Any, file: str = "config.json") -> Change:
    return lambda path: edit_json(path / file, where, value)


def _fields() -> Iterator[Case]:
    """Every field of config.json, left out and of every kind; most can be told, some values are as good as the old."""
    content = json.loads((checkpoint_template() / "config.json").read_text())
    for section in ("model", "task", "policy"):
        yield _case(f"without-{section}", _edit(section, ...), refused())
        for kind, value in VALUES.items():
            yield _case(f"{section}={kind}", _edit(section, value), refused())
        yield _case(f"{section}-unknown-key", _edit(f"{section}.whatever", 1), refused())
        for name in content[section]:
            yield _case(f"without-{section}.{name}", _edit(f"{section}.{name}", ...), sound(_results))
            for kind in VALUES:
                expect = refused() if kind in _NEVER.get(f"{section}.{name}", ()) else sound(_results)
                yield _case(f"{section}.{name}={kind}", _edit(f"{section}.{name}", VALUES[kind]), expect)
    for name in ("d_model", "n_layers", "context_length", "sim_steps", "mlp_ratio"):
        for value in (2**16, 10**9, 10**18):
            expect = sound(_results) if name in ("sim_steps", "context_length") else refused()
            yield _case(f"model.{name}={value}", _edit(f"model.{name}", value), expect)
    for name in ("state_dim", "action_dim", "n_timesteps"):
        for value in (1, 3, 5, 10**9, 10**15):
            yield _case(f"task.{name}={value}", _edit(f"task.{name}", value), sound(_results))


_NUMBERS = ("null", "text", "empty", "list", "lists", "object", "nan", "inf", "true", "surrogate", "markup")
_NEVER = {
    **{f"model.{name}": (*_NUMBERS, "-1", "0", "1.5", "10^30") for name in ("d_model", "n_layers", "n_heads")},
    **{f"task.{name}": (*_NUMBERS, "-1", "1.5") for name in ("state_dim", "action_dim")},
    "policy.rtg_scale": (*_NUMBERS, "-1", "0"),
    "policy.target_return": _NUMBERS,
    "policy.observation_space": tuple(VALUES),
    "policy.action_space": tuple(VALUES),
    "policy.env_id": tuple(kind for kind in VALUES if kind != "null"),
    "policy.reference": tuple(kind for kind in VALUES if kind not in ("null",)),
    "model.kind": tuple(VALUES),
}


def _formats() -> Iterator[Case]:
    for label, value in {"2": 2, "0": 0, "text": "1", "float": 1.0, "true": True, "null": None, "list": [1],
                         "absent": ..., "huge": 10**30, "1.5": 1.5}.items():  # fmt: skip
        yield _case(f"format-{label}", _edit("format", value), sound() if label == "float" else refused())


def _texts() -> Iterator[Case]:
    for file in ("config.json", "provenance.json"):
        good = (checkpoint_template() / file).read_text()
        texts = {"empty": "", "list": "[]", "null": "null", "number": "5", "deep": DEEP, "half": good[: len(good) // 2],
                 "deep-closed": "[" * 50_000 + "]" * 50_000, "deep-objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
                 "huge-number": f'{{"format": {HUGE}}}', "two": good + good, "pickle": "\x80\x04.",
                 "python": "__import__('os').system('touch CANARY')"}  # fmt: skip
        for label, text in texts.items():
            expect = refused() if file == "config.json" else sound(_results)
            yield _case(f"{file}-{label}", lambda path, f=file, t=text: (path / f).write_text(t), expect)
        for label, data in {"utf16": good.encode("utf-16"), "nul": bytes(99), "latin": b'{"\xe9": 1}'}.items():
            expect = sound(_results)
            yield _case(f"{file}-{label}", lambda path, f=file, d=data: (path / f).write_bytes(d), expect)
        yield _case(f"{file}-absent", lambda path, f=file: (path / f).unlink(), sound(_results))


def _environments() -> Iterator[Case]:
    """A checkpoint names its environment: only one that is registered, with plain arguments, may be made."""
    ids = {"module": "evilmod:Env-v0", "stdlib": "antigravity:X-v0", "path": "/tmp/evilmod:Env-v0", "dots": "..evil:E",
           "unknown": "Nowhere-v0", "no-version": "CartPole", "old": "CartPole-v99", "space": "Car tPole-v1",
           "newline": "CartPole-v1\nx", "colon": ":", "colons": "a:b:c", "slash": "evilmod/Env-v0"}  # fmt: skip
    for label, env_id in ids.items():
        for spec in ("same", "none", "cartpole"):
            text = {"same": json.dumps({**CARTPOLE, "id": env_id}), "none": None, "cartpole": json.dumps(CARTPOLE)}[
                spec
            ]

            def change(path: Path, env_id: str = env_id, text: str | None = text) -> None:
                edit_json(path / "config.json", "policy.env_id", env_id)
                edit_json(path / "config.json", "policy.env_spec", text)

            yield _case(f"env-id-{label}-{spec}", change, refused())
    for name, (entry, kwargs) in EVIL.items():
        yield _spec(f"entry-{name}", {"entry_point": entry, "kwargs": kwargs}, sound(_results))
        yield _spec(f"vector-{name}", {"vector_entry_point": entry, "kwargs": kwargs}, sound(_results))
        wrapper = {"name": name, "entry_point": entry, "kwargs": kwargs}
        yield _spec(f"wrapper-{name}", {"additional_wrappers": [wrapper]}, refused())
    yield _spec("kwargs-unknown", {"kwargs": {"nonsense": 1}}, refused())
    for label, value in {
        "path": "/etc/passwd",
        "relative": "x.xml",
        "object": {"a": "/etc/passwd"},
        "list": ["/x"],
    }.items():
        changes = {"id": "OpensPath-v0", "kwargs": {"xml_file": value}}
        yield _spec(f"kwargs-{label}", changes, refused(), env_id="OpensPath-v0")
    human = {"id": "OpensPath-v0", "kwargs": {"render_mode": "human"}}
    yield _spec("render-mode", human, accepted(_not_rendered), env_id="OpensPath-v0")
    limits = {"digits": int("9" * 400), "negative": -1, "0": 0, "fraction": 1.5, "true": True, "text": "5", "list": [5],
              "inf": INF, "nan": NAN}  # fmt: skip
    for label, limit in limits.items():
        yield _spec(f"limit-{label}", {"max_episode_steps": limit}, refused() if label != "nan" else sound())
    yield _spec("limit-3", {"max_episode_steps": 3}, accepted(_three_steps))
    wrappers: dict[str, tuple[Any, Expect]] = {
        "rescale": ([_wrapper("RescaleObservation", min_obs=-1.0, max_obs=1.0)], sound()),
        "time-limit": ([_wrapper("TimeLimit", max_episode_steps=3)], sound()),
        "clip": ([_wrapper("ClipReward", min_reward=0.0, max_reward=0.5)], sound(_clipped)),
        "own": (
            [{"name": "Doubled", "entry_point": "tests.campaign.bad_envs:Doubled", "kwargs": {}}],
            refused("Doubled"),
        ),
        "video": ([_wrapper("RecordVideo", video_folder="CANARY")], sound()),
        "unknown": ([_wrapper("NoSuchWrapper")], refused("NoSuchWrapper")),
        "vector": ([{"name": "v", "entry_point": "gymnasium.wrappers.vector:ClipReward", "kwargs": {}}], refused()),
        "dunder": ([{"name": "x", "entry_point": "gymnasium.wrappers:__loader__", "kwargs": {}}], refused()),
        "submodule": (
            [{"name": "x", "entry_point": "gymnasium.wrappers.rendering:os.system", "kwargs": {}}],
            refused(),
        ),
        "function": ([_wrapper("TransformReward", func="print")], refused()),
        "text": (["ClipReward"], refused()),
        "no-list": ("ClipReward", refused()),
        "number": (5, refused()),
        "many": ([_wrapper("ClipReward", min_reward=0.0, max_reward=0.5)] * 5000, refused()),
    }
    for label, (value, expect) in wrappers.items():
        yield _spec(f"wrapper-{label}", {"additional_wrappers": value}, expect)
    for label, text in {"deep": DEEP, "list": "[]", "null": "null", "number": "5", "no-id": "{}", "half": '{"id": "Car',
                        "kwargs-list": json.dumps({**CARTPOLE, "kwargs": [1]})}.items():  # fmt: skip
        expect = refused() if label in ("deep", "list", "number", "half", "kwargs-list") else sound(_results)
        yield _case(f"env-spec-{label}", _edit("policy.env_spec", text), expect)


def _wrapper(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"name": name, "entry_point": f"gymnasium.wrappers:{name}", "kwargs": kwargs}


def _spec(name: str, changes: dict[str, Any], expect: Expect, env_id: str = "CartPole-v1") -> Case:
    def change(path: Path) -> None:
        edit_json(path / "config.json", "policy.env_id", env_id)
        edit_json(path / "config.json", "policy.env_spec", json.dumps({**CARTPOLE, **changes}))

    return _case(f"spec-{name}", change, expect)


def _not_rendered(result: Result) -> str | None:
    return "the environment was rendered" if (result.folder / "RENDERED").exists() else _results(result)


def _three_steps(result: Result) -> str | None:
    returns = json.loads((result.folder / "results.json").read_text())[0]["returns"]
    return None if returns == [3.0] else f"returns are {returns}, not those of three steps"


def _clipped(result: Result) -> str | None:
    rows = json.loads((result.folder / "results.json").read_text())
    return None if rows[0]["returns"][0] * 2 % 1 == 0 else f"returns are {rows[0]['returns']}"


def _provenance() -> Iterator[Case]:
    """A report is no place to fail: what is odd in it is left out."""
    odd = {**VALUES, "nested": {"a": {"b": [1, {"c": None}]}}, "huge-list": [0.0] * 100_000, "mixed": [1, "a", None],
           "lists-of-text": [["a"]], "bytes": "\x00\x1b[31m"}  # fmt: skip
    for field in ("config", "dataset_return_quantiles", "command", "versions", "dataset_id", "commit", "seed", "step"):
        yield _case(
            f"provenance-without-{field}",
            _edit(field, ..., "provenance.json"),
            accepted(_results),
            "--report",
            "report",
        )
        for kind, value in odd.items():
            change = _edit(field, value, "provenance.json")
            yield _case(f"provenance-{field}={kind}", change, sound(_results), "--report", "report")
    yield _case("reference-markup", _edit("policy.reference.source", "[/x] [bold]"), accepted(_results))


def _tensors() -> Iterator[Case]:
    def change(file: str, edit: Callable[[dict[str, torch.Tensor]], Any]) -> Change:
        def changed(path: Path) -> None:
            tensors = load_file(path / file)
            edit(tensors)
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / file)

        return changed

    def first(tensors: dict[str, torch.Tensor]) -> str:
        return sorted(tensors)[0]

    edits: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], Expect]] = {
        "nan": (lambda t: t[first(t)].view(-1).__setitem__(0, NAN), refused()),
        "inf": (lambda t: t[first(t)].view(-1).__setitem__(0, INF), refused()),
        "half": (lambda t: t.update({n: v.half() for n, v in t.items()}), sound(_results)),
        "double": (lambda t: t.update({n: v.double() for n, v in t.items()}), sound(_results)),
        "integers": (lambda t: t.update({n: v.int() for n, v in t.items()}), sound(_results)),
        "bool": (lambda t: t.update({n: v.bool() for n, v in t.items()}), sound(_results)),
        "absent": (lambda t: t.pop(first(t)), refused()),
        "more": (lambda t: t.__setitem__("more", torch.zeros(3)), refused()),
        "none": (lambda t: t.clear(), refused()),
        "renamed": (lambda t: t.__setitem__("other", t.pop(first(t))), refused()),
        "shape": (lambda t: t.__setitem__(first(t), t[first(t)].repeat(2)), refused()),
        "empty": (lambda t: t.__setitem__(first(t), torch.zeros(0)), refused()),
        "scalar": (lambda t: t.__setitem__(first(t), torch.zeros(())), refused()),
        "flat": (lambda t: t.update({n: v.reshape(-1) for n, v in t.items()}), None),
        "huge": (lambda t: t[first(t)].fill_(3e38), sound()),
    }  # fmt: skip
    for file in ("model.safetensors", "stats.safetensors"):
        for label, (edit, expect) in edits.items():
            if expect is None:
                expect = refused() if file.startswith("model") else accepted(_results)
            if file.startswith("stats") and label in ("more", "integers", "bool"):
                expect = sound()
            yield _case(f"{file}-{label}", change(file, edit), expect)
        for label, header in {"size-0": 0, "size-huge": 2**62, "size-beyond": 10**6, "size-1": 1}.items():
            yield _case(f"{file}-{label}", lambda path, f=file, n=header: _header(path / f, n), refused())
        for label, text in {"deep": "[" * 100_000, "list": "[]", "overlap": _entries(0, 16),
                            "beyond": _entries(0, 10**12), "back": _entries(16, 0), "negative": _entries(-16,
                            0), "dtype": _entries(0, 16, "F3"),
                            "shape": _entries(0, 16, shape=[10**15])}.items():  # fmt: skip
            yield _case(f"{file}-header-{label}", lambda path, f=file, t=text: _rewrite(path / f, t), refused())
        yield _case(f"{file}-no-file", lambda path, f=file: (path / f).unlink(), refused())
        yield _case(f"{file}-pickle", lambda path, f=file: torch.save({"a": torch.zeros(2)}, path / f), refused())
        yield _case(f"{file}-zip", lambda path, f=file: (path / f).write_bytes(b"PK\x03\x04" + bytes(99)), refused())
    for name in ("state_mean", "state_std"):
        for label, value in {"0": 0.0, "-1": -1.0, "nan": NAN, "inf": INF, "1e-45": 1e-45}.items():
            edit = lambda t, n=name, v=value: t[n].fill_(v)  # noqa: E731
            bad = label in ("nan", "inf") or (name == "state_std" and label in ("0", "-1"))
            yield _case(f"{name}={label}", change("stats.safetensors", edit), refused() if bad else sound())
        for size in (0, 3, 5, 10**5):
            edit = lambda t, n=name, s=size: t.__setitem__(n, torch.ones(s))  # noqa: E731
            yield _case(f"{name}-of-{size}", change("stats.safetensors", edit), refused())


def _header(path: Path, size: int) -> None:
    path.write_bytes(struct.pack("<Q", size) + path.read_bytes()[8:])


def _rewrite(path: Path, header: str) -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + bytes(64))


def _entries(first: int, last: int, dtype: str = "F32", shape: list[int] | None = None) -> str:
    entry = {"dtype": dtype, "shape": shape or [4], "data_offsets": [first, last]}
    return json.dumps({"state_mean": entry, "state_std": entry})


def _folders() -> Iterator[Case]:
    """A neighbour called `<name>.old` is no checkpoint of a run folder that has one of its own."""

    def neighbour(folder: Path) -> Command:
        run = folder / "runs" / "mine"
        run.parent.mkdir()
        (run / "checkpoints").mkdir(parents=True)
        checkpoint(run / "checkpoints", name="last")
        other = checkpoint(folder / "runs", name="mine.old")
        edit_json(other / "config.json", "policy.target_return", 7.0)
        return evaluate(run, "--json", str(folder / "results.json"))

    yield Case("neighbour-old", neighbour, accepted(_target_5))

    def torn(folder: Path) -> Command:
        (folder / "run" / "checkpoints").mkdir(parents=True)
        checkpoint(folder / "run" / "checkpoints", name="last.old")
        return evaluate(folder / "run", "--json", str(folder / "results.json"))

    yield Case("torn-replace", torn, accepted(_target_5))
    for label in ("empty", "config-alone", "partial"):

        def part(folder: Path, label: str = label) -> Command:
            path = checkpoint(folder, name="whole")
            where = folder / (".mine.partial" if label == "partial" else "mine")
            where.mkdir()
            if label != "empty":
                (where / "config.json").write_text((path / "config.json").read_text())
            return evaluate(folder / "mine")

        yield Case(f"folder-{label}", part, refused())


def _target_5(result: Result) -> str | None:
    rows = json.loads((result.folder / "results.json").read_text())
    return None if rows[0]["target_return"] == 5.0 else "another policy was taken"
