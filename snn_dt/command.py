"""Descriptions of commands: a package says what its command does, and `snn_dt.cli` reads the flags and runs it.

This keeps `cli/` out of every other package. `snn_dt.cli.main.COMMANDS` names each description by its module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

A = TypeVar("A")
C = TypeVar("C")


@dataclass(frozen=True)
class Command(Generic[A]):
    """A command whose flags are the fields of one dataclass."""

    arguments: type[A]
    """The dataclass; its docstring and the text under its fields are the help."""
    run: Callable[[A], None]
    """Executes the command."""


@dataclass(frozen=True)
class RunFlags:
    """Flags of every command that makes a run. A command adds its configuration as a second base class."""

    config: tuple[Path, ...] = ()
    """YAML files; each one overrides those before it. Presets stand before all flags, by name."""
    run_dir: Path | None = None
    """New folder for the run; null makes one under runs/."""
    resume: Path | None = None
    """Run folder to resume. The only other flag allowed is --trust-env-spec, if the command has it."""


@dataclass(frozen=True)
class TrustedRunFlags(RunFlags):
    """`RunFlags` of commands that make environments."""

    trust_env_spec: bool = False
    """Trust the files: import and run the environments, wrappers and arguments that they describe. Never read from a
    file."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run for the terminal."""

    done: int
    """Updates or iterations done."""
    total: int
    """Updates or iterations of the whole run."""
    signum: int | None = None
    """Signal that stopped the run; None if it is finished."""
    rows: tuple[dict[str, Any], ...] = ()
    """The last evaluation, printed as a table."""
    summary: str = ""
    """Printed after a finished run."""


@dataclass(frozen=True)
class RunCommand(Generic[C]):
    """A command that makes or resumes a run in a folder, such as `train`."""

    name: str
    """Name of the command."""
    unit: str
    """What is counted in `Outcome.done`: update or iteration."""
    arguments: type[Any]
    """Dataclass with the bases `RunFlags` and the configuration."""
    load: Callable[..., C]
    """Reads the configuration from YAML files; takes `trust` if the command has `TrustedRunFlags`."""
    validate: Callable[[C], None]
    """Checks the configuration."""
    new_folder: Callable[[C], Path]
    """Names the run folder if `--run-dir` is not given."""
    run: Callable[[C, Path, bool, bool], Outcome]
    """Trains: `(config, run_dir, resume, trust) -> Outcome`. The folder is locked meanwhile."""

    @property
    def takes_trust(self) -> bool:
        """Whether the command has the flag `--trust-env-spec`."""
        return issubclass(self.arguments, TrustedRunFlags)


def plain_console(soft_wrap: bool = True, width: int | None = None, stderr: bool = False) -> Console:
    """Return a console that prints text unchanged: without markup, `:emoji:` or highlighting.

    Args:
        soft_wrap: leave long lines to the terminal.
        width: columns; None is the terminal's.
        stderr: print to standard error.
    """
    import rich.console

    return rich.console.Console(
        width=width, stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False
    )
