"""Command lines: one dataclass per command, its mistakes in one line."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import TypeVar

from snn_dt.errors import ConfigError

T = TypeVar("T")


def parse(cls: type[T], arguments: Sequence[str], program: str, default: T | None = None) -> T:
    """Read a command line into the dataclass `cls`; `--help` prints its fields and leaves with status 0.

    Raises:
        ConfigError: an unknown flag or a value of a wrong type, in one line.
    """
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                cls,
                args=list(arguments),
                default=default,
                prog=program,
                config=(tyro.conf.FlagConversionOff,),
                use_underscores=True,
            )
    except SystemExit as leave:
        if not leave.code:
            raise
        raise ConfigError(_one_line(complaint.getvalue(), program)) from None


def _one_line(box: str, program: str) -> str:
    """Flatten the box that tyro draws around a complaint."""
    lines = [line.strip(" │╭╮╰╯─\n") for line in box.splitlines()]
    words = " ".join(line for line in lines[1:] if line and not line.startswith("For full helptext"))
    return f"{program}: {words}; see {program} --help"
