"""Minari's metadata.json: fields that lack, are of a wrong kind, do not agree with the data, or would run code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.campaign.case import Case, Command, Expect, Result, accepted, loud, refused, sound
from tests.campaign.inputs import BOX, CARTPOLE, DISCRETE, OBSERVATIONS, hdf5, info, metadata, train

DEEP = "[" * 100_000
HUGE = "9" * 5000
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "-1": -1,
    "0": 0,
    "4.7": 4.7,
    "inf": float("inf"),
    "-inf": float("-inf"),
    "nan": float("nan"),
    "1e300": 1e300,
    "10^30": 10**30,
    "text": "many",
    "empty": "",
    "list": [],
    "lists": [[[5]]],
    "object": {},
    "surrogate": "\ud800",
    "nul": "a\0b",
    "markup": "[/red]",
    "deep-text": DEEP,
}


def cases(seed: int) -> Iterator[Case]:
    yield _case("good", {}, accepted(_five_episodes))
    yield from _fields()
    yield from _counts()
    yield from _texts()
    yield from _spaces()
    yield from _evil()


def _five_episodes(result: Result) -> str | None:
    facts = json.loads(result.stdout)
    return None if (facts["episodes"], facts["steps"]) == (5, 23) else f"found {facts['episodes']} episodes"


def _case(name: str, changes: dict[str, Any], expect: Expect, command: str = "info") -> Case:
    return Case(name, lambda folder: _write(folder, changes, command), expect)


def _write(folder: Path, changes: dict[str, Any], command: str = "info") -> Command:
    facts = {key: value for key, value in (metadata() | changes).items() if value is not ...}
    path = hdf5(folder, facts)
    if command == "train":
        return train(folder, "--eval.episodes", "1", "--eval.num_envs", "1")
    if command == "list":
        (folder / "minari").mkdir()
        path.rename(folder / "minari" / "set")
        return Command(("data", "list"))
    return info(path) if command == "info" else Command(("data", command, str(path)))


def _fields() -> Iterator[Case]:
    """Every field left out, and of every wrong kind; what nothing depends on may be anything."""
    needed = {"total_episodes": refused(), "observation_space": sound(), "action_space": sound()}
    for field in metadata():
        yield _case(f"without-{field}", {field: ...}, needed.get(field, sound(_five_episodes)))
        for kind, value in VALUES.items():
            free = field in ("author", "minari_version", "dataset_id", "ref_min_score", "ref_max_score")
            same = free or value is None or (field == "total_steps" and kind == "markup")
            expect = sound(_five_episodes) if same else _of_kind(field, kind)
            yield _case(f"{field}={kind}", {field: value}, expect)
    yield _case("without-spaces", {"observation_space": ..., "action_space": ...}, sound(_five_episodes))
    nothing = dict.fromkeys(("observation_space", "action_space", "env_spec", "eval_env_spec"), ...)
    yield _case("without-spaces-and-spec", nothing, refused())


def _of_kind(field: str, kind: str) -> Expect:
    if field == "total_episodes":
        return refused() if kind not in ("0",) else loud()
    if field == "total_steps":
        return loud()
    if field in ("env_spec", "eval_env_spec"):
        return sound(_five_episodes)  # none is wanted to read the data; false, 0 and "" say that there is none
    return refused()


def _counts() -> Iterator[Case]:
    for field, right in (("total_episodes", 5), ("total_steps", 23)):
        for wrong in (1, right - 1, right + 1, 10 * right, 10**9, right - 0.5, right + 1e-9, -right):
            yield _case(f"{field}-{wrong}", {field: wrong}, loud())
        yield _case(f"{field}-text", {field: str(right)}, sound(_five_episodes))
        yield _case(f"{field}-float", {field: float(right)}, sound(_five_episodes))
    yield _case("ref-equal", {"ref_min_score": 5.0, "ref_max_score": 5.0}, sound(_five_episodes))
    yield _case("ref-inf", {"ref_max_score": float("inf")}, sound(_five_episodes))


def _texts() -> Iterator[Case]:
    """The file as a whole."""
    good = json.dumps(metadata())
    texts = {
        "empty": "",
        "blank": "  \n",
        "list": "[]",
        "null": "null",
        "number": "5",
        "text": '"x"',
        "deep": DEEP,
        "deep-closed": "[" * 50_000 + "]" * 50_000,
        "deep-objects": '{"a":' * 50_000 + "1" + "}" * 50_000,
        "deep-field": good[:-1] + f', "more": {"[" * 50_000 + "]" * 50_000}}}',
        "huge-number": good.replace('"total_episodes": 5', f'"total_episodes": {HUGE}'),
        "huge-exponent": good.replace('"total_episodes": 5', '"total_episodes": 1e999999'),
        "half": good[: len(good) // 2],
        "comments": "// hello\n" + good,
        "two": good + good,
        "trailing": good[:-1] + ",}",
        "single-quotes": good.replace('"', "'"),
    }
    for name, text in texts.items():
        for command in ("info", "list"):
            expect = refused() if command == "info" else sound()
            yield Case(f"file-{name}-{command}", lambda folder, t=text, c=command: _raw(folder, t.encode(), c), expect)
    for name, data in {"bom": b"\xef\xbb\xbf" + good.encode(), "utf16": good.encode("utf-16"), "nul": b"\0" * 500,
                       "latin": good.replace("nobody", "n\xf6").encode("latin-1"), "tail": good.encode() + b"\0\0",
                       "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256))}.items():  # fmt: skip
        yield Case(f"file-{name}", lambda folder, d=data: _raw(folder, d, "info"), sound(_five_episodes))


def _raw(folder: Path, content: bytes, command: str) -> Command:
    done = _write(folder, {}, command)
    where = folder / ("minari/set" if command == "list" else "set")
    (where / "data" / "metadata.json").write_bytes(content)
    return done


def _spaces() -> Iterator[Case]:
    """Spaces that are none, do not fit the data, or that nobody can learn from."""
    box = OBSERVATIONS
    unit = {**box, "low": [0.0] * 4, "high": [1.0] * 4}
    wrong = {
        "type": {**box, "type": "Ball"},
        "no-type": {"dtype": "float32"},
        "no-shape": {**box, "shape": ...},
        "shape-5": {**box, "shape": [5], "low": [0] * 5, "high": [1] * 5},
        "shape-0": {**box, "shape": [0], "low": [], "high": []},
        "shape-negative": {**box, "shape": [-4]},
        "shape-huge": {**box, "shape": [10**12], "low": 0.0, "high": 1.0},
        "shape-text": {**box, "shape": "4"},
        "low-text": {**box, "low": ["a"] * 4},
        "low-nan": {**box, "low": [float("nan")] * 4},
        "low-above-high": {**box, "low": [1.0] * 4, "high": [-1.0] * 4},
        "dtype": {**box, "dtype": "object"},
        "dtype-none": {**box, "dtype": "flot"},
        "dtype-code": {**box, "dtype": "__import__('os').system('touch CANARY')"},
        "text": {"type": "Text", "min_length": 1, "max_length": 5, "charset": "ab"},
        "image-last": {**box, "dtype": "uint8", "shape": [84, 84, 3], "low": 0, "high": 255},
        "image-first": {**box, "dtype": "uint8", "shape": [4, 84, 84], "low": 0, "high": 255},
        "sequence": {"type": "Sequence", "feature_space": json.dumps(unit), "stack": False},
        "dict-empty": {"type": "Dict", "subspaces": {}},
        "dict-text": {"type": "Dict", "subspaces": {"a": "x"}},
        "dict-absent": {"type": "Dict", "subspaces": {"a": unit}},
        "tuple-absent": {"type": "Tuple", "subspaces": [unit]},
        "discrete": DISCRETE,
    }
    for name, space in wrong.items():
        space = {key: value for key, value in space.items() if value is not ...}
        yield _case(f"observations-{name}", {"observation_space": json.dumps(space)}, refused())
    box = {**BOX, "shape": [1], "low": [-1.0], "high": [1.0]}
    actions = {
        "n-0": {**DISCRETE, "n": 0},
        "n-1": {**DISCRETE, "n": 1},
        "n-negative": {**DISCRETE, "n": -2},
        "n-inf": {**DISCRETE, "n": float("inf")},
        "n-text": {**DISCRETE, "n": "two"},
        "start": {**DISCRETE, "start": 7},
        "multi": {"type": "MultiDiscrete", "dtype": "int64", "nvec": [2, 2], "start": [0, 0]},
        "binary": {"type": "MultiBinary", "n": 2},
        "box-2": BOX,
    }
    for name, space in actions.items():
        yield _case(f"actions-{name}", {"action_space": json.dumps(space)}, refused())
    integers_for_numbers = {
        "box-of-integers": box,  # 0 and 1 as torques: read as continuous, with a word
        "box-no-width": {**box, "low": [1.0], "high": [1.0]},
        "box-absurd": {**box, "low": [-3e38], "high": [3e38]},
    }
    for name, space in integers_for_numbers.items():
        yield _case(f"actions-{name}", {"action_space": json.dumps(space)}, loud())


EVIL = {
    "getoutput": ("subprocess:getoutput", {"cmd": "touch CANARY"}),
    "system": ("os:system", {"command": "touch CANARY"}),
    "open": ("builtins:open", {"file": "CANARY", "mode": "w"}),
    "module": ("evilmod:Env", {}),
    "path": ("pathlib:Path.touch", {"self": "CANARY"}),
    "registered": ("tests.campaign.bad_envs:OpensPath", {"xml_file": "/etc/passwd"}),
}


def _evil() -> Iterator[Case]:
    """Specs that name code, with and without the spaces that make it needless to look at them."""
    without = {"observation_space": ..., "action_space": ...}
    for command in ("info", "cache", "list", "train"):
        for name, (entry, kwargs) in EVIL.items():
            for env_id in ("Evil-v0", "CartPole-v1", "evilmod:Evil-v0"):
                spec = {**CARTPOLE, "id": env_id, "entry_point": entry, "kwargs": kwargs}
                changes = {"env_spec": json.dumps(spec), "eval_env_spec": json.dumps(spec)}
                yield _evil_case(f"{name}-{env_id}-{command}", changes, command)
                if command != "list":
                    yield _evil_case(f"{name}-{env_id}-spaceless-{command}", changes | without, command)
    for name, (entry, kwargs) in EVIL.items():
        wrapper = {"name": name, "entry_point": entry, "kwargs": kwargs}
        spec = {**CARTPOLE, "additional_wrappers": [wrapper]}
        changes = {"env_spec": json.dumps(spec), "eval_env_spec": json.dumps(spec)}
        for command in ("info", "train"):
            yield _evil_case(f"wrapper-{name}-{command}", changes, command)
            yield _evil_case(f"wrapper-{name}-spaceless-{command}", changes | without, command)
        vector = json.dumps({**CARTPOLE, "vector_entry_point": entry, "kwargs": kwargs})
        yield _evil_case(f"vector-{name}", {"env_spec": vector, "eval_env_spec": vector}, "train")
    for name, kwargs in {"xml": {"xml_file": "/etc/passwd"}, "relative": {"xml_file": "../x.xml"},
                         "home": {"xml_file": "~/x"}, "nested": {"xml_file": {"a": "/etc/passwd"}},
                         "listed": {"xml_file": ["/etc/passwd"]}}.items():  # fmt: skip
        spec = json.dumps({**CARTPOLE, "id": "OpensPath-v0", "kwargs": kwargs})
        for extra, label in ((without, "spaceless"), ({}, "whole")):
            changes = {"env_spec": spec, "eval_env_spec": spec} | extra
            yield _evil_case(f"kwargs-{name}-{label}", changes, "train", refused())


def _evil_case(name: str, changes: dict[str, Any], command: str, expect: Expect | None = None) -> Case:
    def make(folder: Path) -> Command:
        (folder / "evilmod.py").write_text("open('CANARY', 'w').write('imported')\nEnv = object\n")
        return _write(folder, changes, command)

    return Case(f"evil-{name}", make, expect or sound())
