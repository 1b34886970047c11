"""Configs: bombs, tags, types, bounds, sections without a line, misspelt keys, numbers of YAML 1.1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import yaml

from tests.campaign.case import Case, Command, Expect, Result, accepted, refused, sound
from tests.campaign.inputs import TRAIN, hdf5, train

INF, NAN = float("inf"), float("nan")


def cases(seed: int) -> Iterator[Case]:
    yield _case("good", yaml.safe_dump(TRAIN), accepted(_trained))
    yield from _fields()
    yield from _yaml()
    yield from _numbers()
    yield from _sections()
    yield from _bases()
    yield from _run_folders()


def _trained(result: Result) -> str | None:
    return None if (result.folder / "run/checkpoints/last/config.json").is_file() else "no checkpoint was written"


def _one_update(result: Result) -> str | None:
    resolved = yaml.safe_load((result.folder / "run/config.yaml").read_text())
    return None if resolved["train"]["steps"] == 1 else f"steps are {resolved['train']['steps']}"


def _case(name: str, text: str | bytes, expect: Expect, files: dict[str, str] | None = None) -> Case:
    def make(folder: Path) -> Command:
        hdf5(folder)
        for file, content in (files or {}).items():
            (folder / file).write_text(content)
        command = train(folder, values="")
        data = text if isinstance(text, bytes) else text.encode(errors="surrogateescape")
        (folder / "config.yaml").write_bytes(data)
        return command

    return Case(name, make, expect)


def _with(section: str, line: str) -> str:
    """Return the good config with a line of one section written as it is."""
    key = line.split(":")[0]
    values = {name: dict(part) for name, part in TRAIN.items()}
    values[section].pop(key, None)
    text = yaml.safe_dump({name: part for name, part in values.items() if name != section})
    own = "".join(f"  {name}: {value}\n" for name, value in values[section].items())
    return f"{text}{section}:\n{own}  {line}\n"


def _fields() -> Iterator[Case]:
    """Every field of every section, of every kind that it is not."""
    from snn_dt.config import Config

    for section in fields(Config):
        for name, hint in get_type_hints(get_type_hints(Config)[section.name]).items():
            if is_dataclass(hint):
                yield _case(f"{section.name}.{name}=5", _with(section.name, f"{name}: 5"), refused())
                yield _case(
                    f"{section.name}.{name}-unknown", _with(section.name, f"{name}: {{nonsense: 1}}"), refused()
                )
                continue
            kinds = set(get_args(hint)) | {hint}
            wrong = {"mapping": "{a: 1}", "nested": "[[1]]", "date": "2020-01-01", "nan": ".nan", "inf": ".inf"}
            if str not in kinds:
                wrong |= {"text": "nonsense"}
            if bool not in kinds:
                wrong |= {"true": "true"}
            if not kinds & {int, float, bool} and str not in kinds and not str(hint).startswith("tuple"):
                wrong |= {"number": "5"}
            if int in kinds:
                wrong |= {"fraction": "1.5", "digits": "9" * 5000, "-10^30": str(-(10**30))}
            if float in kinds:
                wrong |= {"digits": "9" * 400, "exponent": "1e999"}
            for kind, value in wrong.items():
                numbers_in_a_list = str(hint).startswith("tuple") and kind == "true" and "str" not in str(hint)
                free = str in kinds or (str(hint).startswith("tuple") and "str" in str(hint))
                expect = sound() if (free and kind in ("date", "nan", "inf", "nested", "true")) else refused()
                if numbers_in_a_list:
                    expect = refused()
                yield _case(f"{section.name}.{name}={kind}", _with(section.name, f"{name}: {value}"), expect)
    bounds = {
        "train": ["steps: 0", "steps: -1", "steps: 1e400", "batch_size: 0", "batch_size: -5", f"batch_size: {10**30}",
                  "accumulate: 0", "accumulate: 3", "learning_rate: 0", "learning_rate: -1",
                  "weight_decay: -1", "seed: -1", f"seed: {2**32}", "threads: -1", "threads: 100000", "log_every: 0",
                  "save_every: 0", "eval_every: -1", "device: gpu", "device: cuda:99", "device: ''", "rule: magic"],
        "model": ["d_model: 0", f"d_model: {10**9}", f"d_model: {10**30}", "n_heads: 3", "n_heads: 0",
                  "n_layers: 0", f"n_layers: {10**9}", "context_length: 0", f"context_length: {10**9}", "dropout: 1.0",
                  "dropout: -0.1", "kind: dens", "kind: ''", "tau_mem: 0", "v_threshold: 0",
                  "surrogate_slope: 0", "sim_steps: 0",
                  "mlp_ratio: 0", "norm_transition: -1", "reset: softly"],
        "data": ["dataset: ''", "dataset: /nowhere", f"dataset: {'a' * 300}", f"dataset: minari:{'a' * 5000}",
                 f"dataset: d4rl:{'a' * 5000}", "rtg_scale: 0", "rtg_scale: -1", "validation_fraction: 1",
                 "validation_fraction: -0.1", "filter_top: 0", "filter_top: 1.1", "oversample_top: 1", "rtg_augment: 2",
                 "split_seed: -1", "reward_mode: sparse", 'dataset: "a\\0b"', "dataset: ~nosuchuser/x"],
        "eval": ["episodes: -1", f"seed: {2**32}", "num_envs: 0", "target_return: [.nan]", "target_return: text",
                 "env_id: 5"],
        "track": ["wandb: perhaps", "tags: {a: 1}"],
    }  # fmt: skip
    for section, lines in bounds.items():
        for line in lines:
            yield _case(f"bound-{section}.{line[:40]}", _with(section, line), refused())
    for section, key, near in (("train", "step", "steps"), ("model", "dmodel", "d_model"),
                               ("train", "learning_rte", "learning_rate"),
                               ("data", "datset", "dataset"), ("eval", "episode", "episodes")):  # fmt: skip
        yield _case(f"misspelt-{section}.{key}", _with(section, f"{key}: 1"), refused(near))
    yield _case("misspelt-section", "trian: {steps: 1}", refused("train"))


def _yaml() -> Iterator[Case]:
    good = yaml.safe_dump(TRAIN)
    bomb = "a: &a {x: 1}\n" + "".join(
        f"{b}: &{b} {{<<: [{','.join(['*' + a] * 10)}], k{a}: 1}}\n"
        for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
    )
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghijkl", "bcdefghijklm", strict=True)
    )
    strings = (
        "a: &a '"
        + "x" * 1000
        + "'\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    )
    keys = "".join(f"? [{', '.join(['*' + c] * 9)}]\n: 1\n" for c in "m")
    broken: dict[str, str | bytes] = {
        "merge-bomb": bomb,
        "merge-bomb-in-section": bomb + "train: {<<: *k}\n",
        "merge-self": "a: &a {<<: *a}\n",
        "merge-list": "train: {<<: [[1]]}\n",
        "merge-number": "train: {<<: 5}\n",
        "laughs": laughs,
        "laughs-in-section": laughs + "train: {steps: *m}\n",
        "laughs-of-strings": strings + "data: {dataset: *i}\n",
        "laughs-as-key": laughs + keys,
        "alias-self": "train: &a [*a]\n",
        "alias-self-mapping": "train: &a {steps: *a}\n",
        "alias-unknown": "train: *nobody\n",
        "deep-list": "train: " + "[" * 20_000,
        "deep-closed": "train: " + "[" * 5000 + "]" * 5000 + "\n",
        "deep-mapping": "train: " + "{a: " * 5000 + "1" + "}" * 5000 + "\n",
        "deep-blocks": "".join(" " * i + "a:\n" for i in range(3000)),
        "deep-dashes": "- " * 20_000 + "a\n",
        "key-twice": good + "train: {steps: 2}\n",
        "key-list": "? [a, b]\n: 1\n",
        "key-number": "5: 1\n",
        "key-null": "~: 1\n",
        "tabs": "train:\n\tsteps: 1\n",
        "unclosed": "train: {steps: 1\n",
        "quotes": 'train: {device: "cpu}\n',
        "list": "- a\n- b\n",
        "text": "hello\n",
        "number": "5\n",
        "documents": good + "---\n" + good,
        "nul": b"train: {steps: 1\0}\n",
        "binary": bytes(range(256)),
        "latin": b"# \xe9\xe8\n" + good.encode(),
        "control": good + "# \x07\n",
        "percent": "%YAML 9.9\n---\n" + good,
        "python": good.replace("steps: 1", "steps: !!python/object/apply:os.system ['touch CANARY']"),
        "python-name": good.replace("steps: 1", "steps: !!python/name:os.system"),
        "python-module": "train: !!python/module:evilmod\n",
    }
    for label, text in broken.items():
        yield _case(f"yaml-{label}", text, refused())
    tags = dict.fromkeys(["int", "float", "timestamp", "set", "omap", "pairs", "null", "seq", "map", "unknown"], "x")
    for tag, value in {**tags, "bool": "maybe", "binary": "!"}.items():
        for section, key in (("model", "kind"), ("train", "steps")):
            yield _case(f"tag-{tag}-{section}.{key}", _with(section, f"{key}: !!{tag} {value}"), refused())
    yield _case("tag-local", _with("train", "steps: !mine 5"), refused())
    for label, data in {"utf16": good.encode("utf-16"), "bom": b"\xef\xbb\xbf" + good.encode(),
                        "crlf": good.replace("\n", "\r\n").encode()}.items():  # fmt: skip
        yield _case(f"yaml-{label}", data, sound(_trained))
    yield _case("yaml-comments", "# hello\n" * 10_000 + good, sound(_trained))
    yield _case("yaml-aliases", good + "", accepted(_trained))


def _numbers() -> Iterator[Case]:
    """YAML 1.1 reads `1:30` as 90 and `010` as 8: refused, or read as what it looks like."""
    for text in (
        "1:30",
        "1:0:0",
        "0x1",
        "0b1",
        "0o1",
        "010",
        "1_0",
        "+1_000",
        "\u0661",
        "\u00b9",
        "\uff11",
        "1:1.5",
        "0x1p0",
        "1__0",
    ):
        for key in ("steps", "batch_size", "learning_rate"):
            if text == "0o1" and key == "learning_rate":
                continue
            yield _case(f"number-{key}-{text!a}", _with("train", f"{key}: {text}"), refused())
    for text in ("1e0", "1.0", "'1'", "1.", "+1", "1e+0"):
        yield _case(f"number-good-{text}", _with("train", f"steps: {text}"), sound(_one_update))
    for text in ("yes", "no", "on", "off", "y", "Yes", "TRUE", "1"):
        yield _case(f"bool-{text}", _with("data", f"download: {text}"), sound(_trained))
    for text in ("no", "1:30", "0x1", "null", "~", "2020-01-01", "1.0", "yes", "1e3"):
        yield _case(f"text-{text}", _with("track", f"name: {text}"), sound(_trained))
    for text in ("1e-4", "1E-4", ".5", "5.e-1", "0.0001"):
        yield _case(f"rate-{text}", _with("train", f"learning_rate: {text}"), accepted(_trained))
    for text in (".inf", "-.inf", ".nan", "1e400", "-1e400", "nan", "inf", "Infinity", "1e-400", "1,5", "1 000"):
        yield _case(f"rate-{text}", _with("train", f"learning_rate: {text}"), refused())


def _sections() -> Iterator[Case]:
    good = {name: dict(part) for name, part in TRAIN.items()}
    for section in good:
        if section not in ("data", "track"):
            yield _case(f"section-null-{section}", yaml.safe_dump({**good, section: None}), sound(_trained_or_more))
        for label, value in {"list": [], "text": "x", "number": 5, "true": True, "empty-text": ""}.items():
            yield _case(f"section-{section}-{label}", yaml.safe_dump({**good, section: value}), refused())
    for label, text in {
        "all-null": "data:\nmodel:\ntrain:\neval:\ntrack:\n",
        "empty": "",
        "comments": "# nothing\n",
        "null": "~\n",
    }.items():
        yield Case(f"file-{label}", lambda folder, t=text: _over_flags(folder, t), sound(_trained))


def _trained_or_more(result: Result) -> str | None:
    return _trained(result)


def _over_flags(folder: Path, text: str) -> Command:
    """A config of nothing: all comes from flags, so that the run stays a small one."""
    hdf5(folder)
    words = [f"--{section}.{name}={value}" for section, part in TRAIN.items() for name, value in part.items()]
    return train(folder, *words, values=text)


def _bases() -> Iterator[Case]:
    good = yaml.safe_dump({name: part for name, part in TRAIN.items() if name != "eval"})
    files = {"below.yaml": "eval: {episodes: 0}\n"}
    yield _case("base-good", good + "base: below.yaml\n", accepted(_trained), files)
    yield _case("base-list", good + "base: [below.yaml, below.yaml]\n", accepted(_trained), files)
    wrong = {"absent": "nowhere.yaml", "nul": '"a\\0b"', "long": "a" * 5000, "self": "config.yaml", "folder": ".",
             "mapping": "{a: 1}", "number": "5", "lists": "[[below.yaml]]", "zero": "/dev/zero",
             "stdin": "/dev/stdin", "passwd": "/etc/passwd", "surrogate": '"\\ud800"', "true": "true",
             "no-user": "~nosuchuser/x"}  # fmt: skip
    for label, value in wrong.items():
        yield _case(f"base-{label}", good + f"base: {value}\n", refused(), files)
    bomb = {f"b{i}.yaml": f"base: [{', '.join([f'b{i + 1}.yaml'] * 10)}]\n" for i in range(8)} | {"b8.yaml": "{}\n"}
    yield _case("base-bomb", yaml.safe_dump(TRAIN) + "base: [b0.yaml, b0.yaml]\n", sound(_trained), bomb)
    chain = {f"c{i}.yaml": f"base: c{i + 1}.yaml\n" for i in range(2000)} | {"c2000.yaml": "{}\n"}
    yield _case("base-long-chain", yaml.safe_dump(TRAIN) + "base: c0.yaml\n", sound(_trained), chain)
    circle = {"p.yaml": "base: q.yaml\n", "q.yaml": "base: p.yaml\n"}
    yield _case("base-circle", good + "base: p.yaml\n", refused(), circle)


def _run_folders() -> Iterator[Case]:
    """The resolved config of a run folder is whole, or the run is not gone on with."""
    from snn_dt.config import Config, config_to_dict

    whole = config_to_dict(Config()) | {name: dict(part) for name, part in TRAIN.items()}
    texts: dict[str, str | None] = {
        "empty": "",
        "blank": "\n\n",
        "null": "~\n",
        "comment": "# x\n",
        "mapping": "{}\n",
        "absent": None,
    }
    for section in whole:
        texts[f"without-{section}"] = yaml.safe_dump({k: v for k, v in whole.items() if k != section})
        texts[f"null-{section}"] = yaml.safe_dump({**whole, section: None})
    full = yaml.safe_dump(whole)
    texts |= {"half": full[: len(full) // 2], "half-line": full[: full.rindex("\n", 0, -1)], "nul": "\0" * 100}
    for label, text in texts.items():

        def make(folder: Path, text: str | None = text) -> Command:
            hdf5(folder)
            (folder / "run").mkdir()
            if text is not None:
                (folder / "run" / "config.yaml").write_text(text)
            return Command(("train", "--resume", str(folder / "run")))

        yield Case(f"resume-{label}", make, refused())
    for command in ("finetune", "online", "rsnn"):
        for label, text in {"empty": "", "null": "~\n", "other": full, "mapping": "{}\n"}.items():
            if (command, label) == ("rsnn", "other"):
                continue

            def resume(folder: Path, text: str = text, command: str = command) -> Command:
                (folder / "run").mkdir()
                (folder / "run" / "config.yaml").write_text(text)
                return Command((command, "--resume", str(folder / "run")))

            yield Case(f"resume-{command}-{label}", resume, refused())
