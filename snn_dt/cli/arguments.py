"""Command lines: one dataclass per command, its mistakes in one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TypeVar

from snn_dt.cli import flag_values
from snn_dt.errors import ConfigError
from snn_dt.renamed import current_flags

T = TypeVar("T")


TRUST = ("--trust-env-spec", "--trust_env_spec")


def take_trust(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """Return whether the flag is there that trusts files, alone or with `true`, and the other arguments."""
    trust, others = False, list[str]()
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in TRUST:
            others.append(word)
            continue
        trust = value != "false" if equals else True
        if not equals and (following := next(words, None)) is not None:
            trust = following != "false"
            others += [] if following in ("true", "false") else [following]
    return trust, others


def parse(
    cls: type[T], arguments: Sequence[str], program: str, default: T | None = None, bare_flags: bool = False
) -> T:
    """Read a command line into the dataclass `cls`; `--help` prints its fields and leaves with status 0.

    A boolean takes a value, as a program that makes up command lines wants it; with `bare_flags` naming it is enough.

    Raises:
        ConfigError: an unknown flag or a value of a wrong type, in one line.
    """
    import tyro

    arguments = current_flags(arguments)
    if hasattr(cls, "trust_env_spec"):  # one that is given by hand, so naming it is enough
        trust, arguments = take_trust(arguments)
        arguments += [] if not trust else [TRUST[1]] if bare_flags else [TRUST[1], "true"]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                cls,
                args=list(arguments),
                default=default,
                prog=program,
                config=(tyro.conf.FlagCreatePairsOff if bare_flags else tyro.conf.FlagConversionOff,),
                use_underscores=True,
                registry=flag_values.registry(),
            )
    except SystemExit as leave:
        if not leave.code:
            raise
        raise ConfigError(_one_line(complaint.getvalue(), program)) from None


def _one_line(box: str, program: str) -> str:
    """Take what matters out of the box that tyro draws around its complaints: a title, parts between rules."""
    lines = [line.strip(" │") for line in box.splitlines()[1:]]
    text = " ".join(line for line in lines if line.strip("-─╭╮╰╯"))
    for pattern, short in (
        (r" ?(Argument|For full) helptext.*", ""),
        (r"Missing from .*?(--\S+).*?\(required\) ?", r"expected \1; "),
        (r" Perhaps you meant: (--\S+).*", r"; did you mean \1?"),
        (r"^Error parsing |[; .]+$", ""),
    ):
        text = re.sub(pattern, short, text)
    return f"{text}; see {program} --help"
