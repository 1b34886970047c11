"""The command line that begins or resumes a run: a config file, flags over it, a folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from snn_dt.cli.arguments import parse
from snn_dt.errors import CheckpointError, ConfigError

T = TypeVar("T")


def read_run(
    arguments: Sequence[str], program: str, kind: Any, load: Callable[..., T], check: Callable[[T], None]
) -> tuple[Path | None, T, bool]:
    """Return the run folder (None: the user named none), its configuration, and whether it is resumed.

    Args:
        arguments: the words after the command.
        program: the command, such as `snn-dt train`.
        kind: the dataclass of its flags: the configuration's fields, and `config`, `run_dir`, `resume`.
        load: reads a configuration from paths.
        check: raises `ConfigError` for one that cannot be run.

    Raises:
        SnnDtError: flags, files or values that cannot be used.
    """
    if resume := flag(arguments, "--resume", program):
        if list(arguments) not in (["--resume", resume[0]], [f"--resume={resume[0]}"]):
            raise ConfigError(
                "expected --resume DIR alone (a run keeps its config), found other flags too; leave them out"
            )
        folder = Path(resume[0])
        if not (folder / "config.yaml").is_file():
            raise CheckpointError(
                f"expected a run folder with a config.yaml at {folder}, found none; see the runs in runs/"
            )
        return folder, load(folder / "config.yaml"), True
    base = load(*flag(arguments, "--config", program))
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}  # type: ignore[arg-type]
    args = parse(kind, arguments, program, kind(**fields))
    config = type(base)(**{name: getattr(args, name) for name in fields})
    check(config)
    return args.run_dir, config, False


def flag(arguments: Sequence[str], name: str, program: str) -> list[str]:
    """Find a flag's values, wherever it stands, before the others are read, whose defaults depend on them."""
    values = []
    for i, argument in enumerate(arguments):
        found_name, equals, value = argument.partition("=")
        if found_name == name:
            found = [value] if equals else []
            found += takewhile(lambda word: not word.startswith("--"), arguments[i + 1 :])
            if not found:
                raise ConfigError(f"{program}: expected a path after {name}, found none; name one or leave it out")
            values += found
    return values


def check_new(run_dir: Path) -> None:
    """Refuse to begin a run where there is one.

    Raises:
        CheckpointError: there is one.
    """
    if (run_dir / "config.yaml").exists() or (run_dir / "checkpoints").exists():
        raise CheckpointError(
            f"expected a new run folder, found a run at {run_dir}; go on with it (--resume {run_dir}), choose another "
            "--run-dir, or delete it"
        )
