"""What a command finds around it: no home, an unknown user, closed streams, caches it cannot write, odd names."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.campaign.case import Case, Command, Expect, Result, accepted, ended, sound
from tests.campaign.inputs import checkpoint, evaluate, hdf5, info, train

STREAMS = ("closed", "broken", "ascii")
Make = Callable[[Path], Command]


def cases(seed: int) -> Iterator[Case]:
    commands: dict[str, tuple[Make, Expect]] = {
        "info": (lambda folder: info(hdf5(folder)), accepted()),
        "facts": (lambda folder: Command(("data", "info", str(hdf5(folder)))), accepted()),
        "list": (lambda folder: (hdf5(folder), Command(("data", "list")))[1], accepted()),
        "cache": (lambda folder: Command(("data", "cache", str(hdf5(folder)))), accepted()),
        "evaluate": (_evaluate, accepted(_results)),
        "train": (_train, accepted(_checkpoint)),
        "collect": (_collect, accepted(_collected)),
        "report": (lambda folder: _more(_evaluate(folder), "--report", "report"), accepted(_results)),
    }
    for label, (make, expect) in commands.items():
        for stream in STREAMS:
            # A training whose pipe breaks saves and stops, as for SIGTERM.
            stopped = (label, stream) == ("train", "broken")
            yield Case(
                f"{label}-stdout-{stream}", _with(make, stdout=stream), ended(141, "--resume") if stopped else expect
            )
        for name, environment in _environments().items():
            loud = expect if name not in ("cache-file", "cache-long", "cache-proc") else sound()
            yield Case(f"{label}-{name}", _with(make, environment=environment), sound() if "no-user" in name else loud)
        yield Case(f"{label}-unknown-user", _as_user(make), sound())
    for label, stream in (("evaluate", "ascii"), ("evaluate", "closed"), ("evaluate", "broken")):
        two = lambda folder: _more(_evaluate(folder), "--target-return", "5", "6")  # noqa: E731
        yield Case(f"{label}-two-targets-{stream}", _with(two, stdout=stream), accepted(_two))
    for text in (
        "[/red]",
        "[bold]a",
        "a[/x]b",
        "[link=x]",
        "\u00b5",
        "a b",
        "-x",
        "'",
        '"',
        "$HOME",
        "%s",
        "{x}",
        "\\",
    ):
        yield Case(f"folder-{text!a}", lambda folder, t=text: _named(folder, t), accepted())
        yield Case(f"list-{text!a}", lambda folder, t=text: _listed(folder, t), accepted())
        yield Case(f"cache-root-{text!a}", lambda folder, t=text: _cached(folder, t), accepted())
        yield Case(f"run-{text!a}", lambda folder, t=text: _run(folder, t), accepted())


def _environments() -> dict[str, dict[str, str | None]]:
    return {
        "no-home": {"HOME": None, "SNN_DT_CACHE": None, "MINARI_DATASETS_PATH": None, "D4RL_DATASET_DIR": None},
        "empty-home": {"HOME": "", "SNN_DT_CACHE": None, "MINARI_DATASETS_PATH": None, "D4RL_DATASET_DIR": None},
        "absent-home": {"HOME": "/nowhere/at/all", "SNN_DT_CACHE": None, "MINARI_DATASETS_PATH": None},
        "cache-file": {"SNN_DT_CACHE": "/dev/null"},
        "cache-proc": {"SNN_DT_CACHE": "/proc"},
        "cache-long": {"SNN_DT_CACHE": "a" * 300},
        "cache-no-user": {"SNN_DT_CACHE": "~nosuchuser/x"},
        "minari-no-user": {"MINARI_DATASETS_PATH": "~nosuchuser/x"},
        "c-locale": {"LC_ALL": "C", "LANG": None, "TERM": None, "COLUMNS": None},
        "columns": {"COLUMNS": "0"},
        "columns-text": {"COLUMNS": "wide"},
        "threads": {"OMP_NUM_THREADS": "many"},
        "no-path": {"PATH": ""},
    }


def _with(make: Make, **changes) -> Make:
    return lambda folder: replace(make(folder), **changes)


def _more(command: Command, *words: str) -> Command:
    return replace(command, words=(*command.words, *words))


def _evaluate(folder: Path) -> Command:
    return evaluate(checkpoint(folder), "--json", str(folder / "results.json"))


def _train(folder: Path) -> Command:
    hdf5(folder)
    return train(folder, "--eval.episodes", "1", "--eval.num_envs", "1")


def _collect(folder: Path) -> Command:
    return Command(
        ("data", "collect", "CartPole-v1", "--id", "toy/walk-v0", "--episodes", "2", "--root", str(folder / "root"))
    )


def _results(result: Result) -> str | None:
    file = result.folder / "results.json"
    return None if file.is_file() and json.loads(file.read_text()) else "no results were written"


def _two(result: Result) -> str | None:
    file = result.folder / "results.json"
    return None if file.is_file() and len(json.loads(file.read_text())) == 2 else "not both results were written"


def _checkpoint(result: Result) -> str | None:
    return None if (result.folder / "run/checkpoints/last/config.json").is_file() else "no checkpoint was written"


def _collected(result: Result) -> str | None:
    return None if (result.folder / "root/toy/walk-v0/data/metadata.json").is_file() else "no dataset was written"


def _as_user(make: Make) -> Make:
    """As a user whom the system does not know, without a home: a container started with `--user 12345`."""

    def made(folder: Path) -> Command:
        command = make(folder)
        if os.geteuid() != 0:
            return command
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        function = "tests.campaign.surroundings:as_unknown_user"
        environment = {"HOME": None, "SNN_DT_CACHE": None, "MINARI_DATASETS_PATH": None, "D4RL_DATASET_DIR": None}
        return Command(function=function, arguments=(command.words,), environment=environment)

    return made


def as_unknown_user(folder: Path, words: list[str]) -> int:
    """Run a command line as user 12345."""
    import sys

    from snn_dt.cli.main import main

    if not all(path.stat().st_mode & 0o001 for path in (Path(sys.base_prefix), *Path(sys.base_prefix).parents)):
        return 0  # a Python in somebody's home, which no other user may import from
    os.setgid(12345)
    os.setuid(12345)
    return main(words)


def _named(folder: Path, text: str) -> Command:
    path = hdf5(folder)
    (folder / f"x{text}").parent.mkdir(parents=True, exist_ok=True)
    path.rename(folder / f"x{text}")
    return Command(("data", "info", str(folder / f"x{text}")))


def _listed(folder: Path, text: str) -> Command:
    path = hdf5(folder)
    (folder / "minari" / f"x{text}").parent.mkdir(parents=True)
    path.rename(folder / "minari" / f"x{text}")
    return Command(("data", "list"))


def _cached(folder: Path, text: str) -> Command:
    environment = {"SNN_DT_CACHE": str(folder / f"c{text}")}
    return Command(("data", "cache", str(hdf5(folder))), environment=environment)


def _run(folder: Path, text: str) -> Command:
    hdf5(folder)
    command = train(folder)
    words = [str(folder / f"run{text}") if word == str(folder / "run") else word for word in command.words]
    return Command(tuple(words))
