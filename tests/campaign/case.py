"""What a case is: how its input is made, what is run on it, and what has to come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Command:
    """One command line of `snn-dt`, or a function by name, run in a forked process with a folder of its own."""

    words: tuple[str, ...] = ()
    function: str = ""
    """`module:name`, called with the folder and `arguments` in place of a command line; returns the exit status."""
    arguments: tuple[Any, ...] = ()
    environment: dict[str, str | None] = field(default_factory=dict)
    """Variables that are set, or taken away, for it alone."""
    stdout: str = "file"
    """`closed`, `broken` (a pipe that nobody reads) or `ascii`; a file otherwise."""
    signal_after: float = 0.0
    """Seconds after which it is sent SIGTERM, and then again and again; 0 leaves it alone."""


@dataclass(frozen=True)
class Result:
    """What a command left."""

    status: int
    """Exit status, or minus the number of the signal that ended it."""
    stdout: str
    stderr: str
    seconds: float
    cpu_seconds: float
    grown: int
    """Bytes of memory beyond what the process began with, at its largest."""
    hung: bool
    folder: Path

    @property
    def lines(self) -> list[str]:
        return [line for line in self.stderr.splitlines() if line.strip()]


Verify = Callable[[Result], str | None]
"""Tells what is wrong with a result that was accepted, or nothing."""


@dataclass(frozen=True)
class Expect:
    """What has to come of a case.

    `refused`: status 2 and one line. `warned`: status 0 and a line of warning. `loud`: one of the two. `accepted`:
    status 0, and `verify` finds nothing. `sound`: refused or accepted, without a word or with one; the file's format
    cannot tell. `ended`: another status, given. Lines hold all of `words`.
    """

    kind: str
    words: tuple[str, ...] = ()
    verify: Verify | None = None
    status: int = 0


def refused(*words: str) -> Expect:
    return Expect("refused", words)


def warned(*words: str) -> Expect:
    return Expect("warned", words)


def loud(*words: str) -> Expect:
    return Expect("loud", words)


def accepted(verify: Verify | None = None) -> Expect:
    return Expect("accepted", verify=verify)


def sound(verify: Verify | None = None) -> Expect:
    return Expect("sound", verify=verify)


def ended(status: int, *words: str) -> Expect:
    return Expect("ended", words, status=status)


@dataclass(frozen=True)
class Case:
    """A name, a function that writes the input into an empty folder and says what to run, and an expectation."""

    name: str
    make: Callable[[Path], Command]
    expect: Expect
