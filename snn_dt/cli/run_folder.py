"""What commands that make runs share: their flags --config and --resume, and the folder of a run."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import platform
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from snn_dt.cli import flag_values
from snn_dt.cli.arguments import parse, take_trust
from snn_dt.cli.evaluate import writable_folder
from snn_dt.config_difference import check_whole
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.strict import read_yaml

C = TypeVar("C")


def flag(arguments: Sequence[str], name: str) -> list[str]:
    """Find a flag's values, wherever it stands, before the others are read, whose defaults depend on them."""
    values = []
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
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


def resumed_folder(arguments: Sequence[str]) -> Path | None:
    """Return the run folder that `--resume DIR`, which stands alone, names; None without the flag."""
    resume = flag(arguments, "--resume")
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


def read_run(
    arguments: Sequence[str],
    program: str,
    kind: type[Any],
    load: Callable[..., C],
    validate: Callable[[C], None],
    new_folder: Callable[[C], Path],
) -> tuple[Path, C, bool]:
    """Return the run folder, its configuration, and whether it is resumed.

    Args:
        arguments: of the command.
        program: its name, for messages.
        kind: the configuration's dataclass with `config`, `run_dir` and `resume` beside its fields.
        load: reads a configuration from YAML files.
        validate: checks it.
        new_folder: names a folder where `--run-dir` does not.
    """
    words = take_trust(arguments)[1] if hasattr(kind, "trust_env_spec") else arguments
    if folder := resumed_folder(words):
        path = folder / "config.yaml"
        found = load(path)
        check_whole(found, read_yaml(path), path)
        return folder, found, True
    base: Any = load(*flag(arguments, "--config"))
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(base)}
    args = parse(kind, arguments, program, kind(**fields))
    config: C = type(base)(**{name: getattr(args, name) for name in fields})
    validate(config)
    return args.run_dir or new_folder(config), config, False


@contextlib.contextmanager
def hold(run_dir: Path, resume: bool) -> Iterator[None]:
    """Keep other processes out of a run folder while the context is open; a new one, left empty, goes again.

    The lock is one of the system, on the file `.lock`: it ends with the process, however that ends.

    Raises:
        CheckpointError: the folder is to be new and holds a run, cannot be written, or another process is in it.
    """
    if not resume:
        _check_new(run_dir)
    writable_folder(run_dir)
    try:
        with _locked(run_dir / ".lock") as alone:
            if not resume:
                _check_new(run_dir)  # once more, now that nobody else can begin one
            if alone:
                remove_leftovers(run_dir)
            yield
    finally:
        if not resume:
            with contextlib.suppress(OSError):  # it is not empty, as is usual, or the root of a disk
                run_dir.rmdir()


def remove_leftovers(run_dir: Path) -> None:
    """Remove what killed processes have left half-written in a run folder that this process alone works in."""
    partial = [path for depth in ("", "*/", "*/*/") for path in run_dir.glob(f"{depth}.*.partial")]
    replaced = [path for path in run_dir.glob("checkpoints/*.old") if (path.with_suffix("") / "config.json").is_file()]
    for path in (*partial, *replaced, *run_dir.glob(".writable-*")):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def stopped(program: str, run_dir: Path, signum: int, unit: str, done: int, total: int) -> int:
    """Say how far a run came and how it goes on; returns the exit status."""
    # After a broken pipe nobody reads standard output.
    file = sys.stderr if signum == signal.SIGPIPE else sys.stdout
    print(f"stopped after {unit} {done} of {total}", file=file)
    print(f"go on with: {program} --resume {shlex.quote(str(run_dir))}", file=file)
    return 128 + signum


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock file; gives whether that keeps others out, which not every file system can."""
    alone = True
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CheckpointError(
                f"expected a run folder that no other process works in, found {lock.read() or 'one'} in {path.parent}; "
                "wait for it to end, or choose another --run-dir"
            ) from None
        except OSError:
            alone = False  # a file system without locks
        if not (path.exists() and os.path.samestat(path.stat(), os.fstat(lock.fileno()))):  # it left, and took the file
            raise CheckpointError(f"expected {path.parent} to be free, found a process that just left; try once more")
        with contextlib.suppress(OSError):  # a full disk, which the run will speak of
            lock.truncate(0)
            os.write(lock.fileno(), f"process {os.getpid()} of {platform.node()}".encode())
        try:
            yield alone
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _check_new(run_dir: Path) -> None:
    if (run_dir / "config.yaml").exists() or (run_dir / "checkpoints").exists():
        raise CheckpointError(
            f"expected a new run folder, found a run at {run_dir}; go on with it (--resume {run_dir}), choose another "
            "--run-dir, or delete it"
        )
