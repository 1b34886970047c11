"""Execution of commands that make a run: read the flags, lock the folder and train."""

from __future__ import annotations

import dataclasses
import shlex
import signal
import sys
from collections.abc import Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from snn_dt.cli import flag_values
from snn_dt.cli.arguments import parse, take_trust
from snn_dt.cli.evaluation_tables import print_evaluation
from snn_dt.cli.preset_words import spell_out
from snn_dt.command import RunCommand
from snn_dt.config_difference import check_whole
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.run_folder import is_first_process, lock_run_folder
from snn_dt.strict import read_yaml

C = TypeVar("C")


def execute(command: RunCommand[Any], arguments: Sequence[str]) -> int:
    """Run the command and return the exit status: 0, or 128 + n after signal n. A stopped run can be resumed."""
    run_dir, config, resume = read_run(command, arguments)
    trust = command.takes_trust and take_trust(arguments)[0]
    with lock_run_folder(run_dir, resume):
        outcome = command.run(config, run_dir, resume, trust)
    status = 0 if outcome.signum is None else 128 + outcome.signum
    if not is_first_process():
        return status
    if outcome.rows:
        print_evaluation(list(outcome.rows))
    if outcome.signum is None:
        print(outcome.summary)
        return status
    # After a broken pipe nobody reads standard output.
    file = sys.stderr if outcome.signum == signal.SIGPIPE else sys.stdout
    print(f"stopped after {command.unit} {outcome.done} of {outcome.total}", file=file)
    print(f"go on with: snn-dt {command.name} --resume {shlex.quote(str(run_dir))}", file=file)
    return status


def read_run(command: RunCommand[C], arguments: Sequence[str]) -> tuple[Path, C, bool]:
    """Return (run folder, configuration, whether the run is resumed)."""
    arguments = spell_out(command.name, arguments)
    load, words = command.load, list(arguments)
    if command.takes_trust:
        trust, words = take_trust(arguments)
        load = partial(load, trust=trust)
    if folder := _resumed_folder(words):
        path = folder / "config.yaml"
        found = load(path)
        check_whole(found, read_yaml(path), path)
        return folder, found, True
    # The files come first, because they are the defaults of the flags.
    base: Any = load(*_flag_values(arguments, "--config"))
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    args = parse(command.arguments, arguments, f"snn-dt {command.name}", command.arguments(**fields))
    config: C = type(base)(**{name: getattr(args, name) for name in fields})
    command.validate(config)
    return args.run_dir or command.new_folder(config), config, False


def _resumed_folder(arguments: Sequence[str]) -> Path | None:
    """Return the run folder in `--resume DIR`, or None without it. No other flag may be given."""
    resume = _flag_values(arguments, "--resume")
    if not resume:
        return None
    if list(arguments) not in (["--resume", resume[0]], [f"--resume={resume[0]}"]):
        raise ConfigError("expected --resume DIR alone (a run keeps its config), found other flags too; leave them out")
    folder = Path(resume[0])
    if not (folder / "config.yaml").is_file():
        raise CheckpointError(
            f"expected a run folder with a config.yaml at {folder}, found none; see the runs in runs/"
        )
    return folder


def _flag_values(arguments: Sequence[str], name: str) -> list[str]:
    """Return the paths after a flag, before the other flags are read."""
    values = []
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        # Both `--flag a b` and `--flag=a b` are accepted.
        if flag == name:
            found = [value] if equals else []
            found += takewhile(lambda word: not word.startswith("--"), arguments[i + 1 :])
            if not found:
                raise ConfigError(f"expected a path after {name}, found none; name one or leave it out")
            values += [_path(name, word) for word in found]
    return values


def _path(name: str, word: str) -> str:
    try:
        return str(flag_values.path(word))
    except ValueError as error:
        raise ConfigError(f"{name}: {error}; name one or leave it out") from None
