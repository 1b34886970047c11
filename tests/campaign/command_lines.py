"""Command lines: misspelt words, values of other kinds, names that no file system takes, empty paths."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.campaign.case import Case, Command, Expect, Result, accepted, refused, sound
from tests.campaign.inputs import TRAIN, checkpoint, d4rl, evaluate, hdf5

NAMES = {
    "nul": "a\0b",
    "surrogate": "a\udcffb",
    "long": "a" * 300,
    "very-long": "a" * 5000,
    "long-below": "x/" * 3000 + "y",
    "empty": "",
    "no-user": "~nosuchuser/x",
    "newline": "a\nb/c",
    "below-a-file": "config.yaml/x",
    "absent": "nowhere/at/all",
    "device": "device-link",  # a link to /dev/null: by its own name a fault could hurt the machine that runs this
    "proc": "/proc/self/mem",
    "markup": "[/red]nowhere",
}
# Where a name is written to, these can be used; the others cannot.
WRITABLE = ("newline", "absent", "markup", "surrogate", "no-user")


def cases(seed: int) -> Iterator[Case]:
    yield from _commands()
    yield from _names()
    yield from _numbers()
    yield from _flags()
    yield from _helps()


def _case(name: str, words: tuple[str, ...], expect: Expect) -> Case:
    def make(folder: Path) -> Command:
        hdf5(folder)
        d4rl(folder)
        checkpoint(folder)
        (folder / "config.yaml").write_text("train: {steps: 1}\n")
        (folder / "device-link").symlink_to("/dev/null")
        return Command(words)

    return Case(name, make, expect)


def _commands() -> Iterator[Case]:
    near = {
        "trai": "train",
        "evalute": "evaluate",
        "finetun": "finetune",
        "dta": "data",
        "Train": "train",
        "eval": "evaluate",
    }
    for word, known in near.items():
        yield _case(f"command-{word}", (word,), refused(known))
    for word in ("xyz", "", "--", "-x", "--nonsense", "a\0b", "\ud800", "a" * 10_000, "[/red]", "train evaluate", "\n"):
        yield _case(f"command-{ascii(word)[:20]}", (word,), refused())
    for command in ("evaluate", "finetune", "sweep", "trial", "analyse", "data"):
        yield _case(f"{command}-alone", (command,), refused() if command != "analyse" else sound())
        yield _case(f"{command}-nonsense", (command, "nonsense"), refused())
        yield _case(f"{command}-flag", (command, "--nonsense", "1"), refused())
    for command in ("train", "online", "rsnn"):
        yield _case(f"{command}-nonsense", (command, "nonsense"), refused())
        yield _case(f"{command}-flag", (command, "--nonsense", "1"), refused())
        for word in ("--config", "--resume", "--run-dir"):
            yield _case(f"{command}{word}-without", (command, word), refused())
        yield _case(f"{command}-resume-and-more", (command, "--resume", "x", "--train.steps", "5"), refused())
    for sub in ("inof", "cach", "lst", "colect", ""):
        yield _case(f"data-{sub or 'empty'}", ("data", sub), refused())
    for sub in ("info", "cache", "collect"):
        yield _case(f"data-{sub}-alone", ("data", sub), refused())


def _names() -> Iterator[Case]:
    reads = {
        "evaluate": ("evaluate", "--checkpoint"),
        "finetune": ("finetune", "--checkpoint"),
        "info": ("data", "info"),
        "cache": ("data", "cache"),
        "train-config": ("train", "--config"),
        "online-config": ("online", "--config"),
        "rsnn-config": ("rsnn", "--config"),
        "finetune-config": ("finetune", "--checkpoint", "mine", "--config"),
        "sweep-config": ("sweep", "--config"),
        "trial": ("trial", "--run-dir"),
        "train-resume": ("train", "--resume"),
        "online-resume": ("online", "--resume"),
        "finetune-resume": ("finetune", "--resume"),
        "rsnn-resume": ("rsnn", "--resume"),
    }
    for label, words in reads.items():
        for kind, name in NAMES.items():
            yield _case(f"{label}-{kind}", (*words, name), refused())
    for prefix in ("minari:", "d4rl:", ""):
        for kind, name in NAMES.items():
            words = ("train", *_small(), "--run-dir", "run", f"--data.dataset={prefix}{name}")
            yield _case(f"train-dataset-{prefix}{kind}", words, refused())
            yield _case(f"info-{prefix or 'folder:'}{kind}", ("data", "info", prefix + name), refused())
    for label, words in {
        "run-dir": ("train", *_small(), "--run-dir"),
        "json": (*evaluate("mine").words, "--json"),
        "report": (*evaluate("mine").words, "--report"),
        "plot": ("data", "info", "set", "--plot"),
        "collect-id": ("data", "collect", "CartPole-v1", "--episodes", "1", "--id"),
        "collect-root": ("data", "collect", "CartPole-v1", "--episodes", "1", "--id", "toy/walk-v0", "--root"),
    }.items():
        for kind, name in NAMES.items():
            expect = sound() if kind in (*WRITABLE, "device") else refused()
            if label == "collect-id":
                expect = refused() if kind not in ("device",) else sound()
            yield _case(f"{label}-{kind}", (*words, name), expect)
    for kind, name in NAMES.items():
        yield _case(f"env-id-{kind}", (*evaluate("mine").words, "--env-id", name), refused())
        yield _case(f"collect-{kind}", ("data", "collect", name, "--id", "toy/walk-v0", "--episodes", "1"), refused())
        policy = ("data", "collect", "CartPole-v1", "--id", "toy/walk-v0", "--episodes", "1", "--policy", name)
        yield _case(f"policy-{kind}", policy, sound() if kind == "empty" else refused())
    yield _case("run-dir-empty-leaves-nothing", ("train", *_small(), "--run-dir", ""), refused())
    for text in (
        "abc",
        "abc-v",
        "a/b",
        "/a-v0",
        "../../a-v0",
        "a/../b-v0",
        "a b-v0",
        "-v0",
        "toy/walk-v0/",
        "A/b-v-1",
        "a/b-v1e5",
    ):
        words = ("data", "collect", "CartPole-v1", "--episodes", "1", f"--id={text}", "--root", "root")
        yield _case(f"collect-id-{text}", words, sound() if text == "a b-v0" else refused())


def _small() -> list[str]:
    return [f"--{section}.{name}={value}" for section, part in TRAIN.items() for name, value in part.items()]


def _numbers() -> Iterator[Case]:
    odd = ("0", "-1", "1.5", "nan", "inf", "1e400", "text", "", "1_0", "0x10", "1:30", "\u0661", str(10**30),
           "9" * 5000, "[1]", "[[[", "None", "1,5", " 1", "--1", "true")  # fmt: skip
    for flag in ("--episodes", "--seed", "--num-envs", "--threads"):
        for value in odd:
            good = (value == "0" and flag in ("--threads", "--seed")) or value == " 1"
            expect = sound() if good else refused()
            if value == "1_0":
                expect = sound()
            yield _case(f"evaluate{flag}={value[:20]}", (*_without(flag), f"{flag}={value}"), expect)
    for value in ("nan", "inf", "-inf", "1e400", "text", "", "true", "1:30", "[[["):
        yield _case(f"target-return={value}", (*evaluate("mine").words, f"--target-return={value}"), refused())
    for value in ("0", "-1", "1.5", "nan", "text", "", str(10**30), "9" * 5000):
        yield _case(
            f"collect-episodes={value[:20]}",
            ("data", "collect", "CartPole-v1", "--id", "toy/walk-v0", f"--episodes={value}"),
            refused(),
        )
        if value != "0":
            yield _case(
                f"collect-seed={value[:20]}",
                ("data", "collect", "CartPole-v1", "--id", "toy/walk-v0", "--episodes=1", f"--seed={value}"),
                refused(),
            )
    for low, high in (("1", "1"), ("nan", "1"), ("2", "1"), ("inf", "1"), ("a", "b")):
        words = ("data", "collect", "CartPole-v1", "--id", "toy/walk-v0", "--episodes", "1", "--reference", low, high)
        yield _case(f"reference-{low}-{high}", words, sound() if (low, high) == ("2", "1") else refused())
    for flag in ("train.steps", "train.learning_rate", "model.d_model", "eval.seed", "data.rtg_scale"):
        for value in (
            "nan",
            "inf",
            "text",
            "",
            "9" * 5000,
            "[" * 2000,
            "{",
            "1:30",
            "0x10",
            "-5",
            "1e999",
            "!!int x",
            "*a",
        ):
            words = (
                "train",
                *[w for w in _small() if not w.startswith(f"--{flag}=")],
                "--run-dir",
                "run",
                f"--{flag}={value}",
            )
            expect = sound() if (flag, value) == ("data.rtg_scale", "") else refused()  # nothing is null there
            yield _case(f"train-{flag}={value[:12]}", words, expect)
    for device in ("gpu", "cuda:99", "cuda:x", "", "meta", "cpu:7", "mps", "CPU"):
        words = [word for word in evaluate("mine").words if word not in ("--device", "cpu")]
        yield _case(
            f"device-{device}", (*words, f"--device={device}"), sound() if device in ("cpu:7", "CPU") else refused()
        )


def _without(flag: str) -> list[str]:
    words = list(evaluate("mine").words)
    if flag in words:
        at = words.index(flag)
        del words[at : at + 2]
    return words


def _flags() -> Iterator[Case]:
    words = evaluate("mine").words
    yield _case("flag-twice", (*words, "--seed", "1", "--seed", "2"), sound())
    yield _case("flag-misspelt", (*words, "--episods", "2"), refused("episodes"))
    yield _case("flag-short", (*words, "-e", "2"), refused())
    yield _case("flag-dashes", (*words, "--"), sound())
    yield _case("train-steps-misspelt", ("train", "--train.step", "5"), refused("steps"))
    yield _case("json-is-folder", (*words, "--json", "."), refused())
    yield _case("json-below-file", (*words, "--json", "config.yaml/x"), refused())
    yield _case("run-dir-is-file", ("train", *_small(), "--run-dir", "config.yaml"), refused())
    yield _case("run-dir-holds-a-run", ("train", *_small(), "--run-dir", "."), refused())
    yield _case("markup-env", (*words, "--env-id", "[bold]x"), refused("[bold]x"))
    many = ("train", *_small(), "--run-dir", "run", *[f"--track.tags={i}" for i in range(3000)])
    yield _case("many-flags", many, sound())


def _helps() -> Iterator[Case]:
    for words in (("--help",), ("--version",), (), ("train", "--help"), ("evaluate", "--help"), ("data", "--help"),
                  ("data", "info", "--help"), ("online", "--help"), ("finetune", "--help")):  # fmt: skip
        yield _case(f"help-{'-'.join(words) or 'none'}", words, accepted(_printed))


def _printed(result: Result) -> str | None:
    return None if result.stdout.strip() else "nothing was printed"
