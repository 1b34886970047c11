"""Standard output and error whose failures never end a command.

They may be closed, broken, on a full disk or of a narrow encoding.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from snn_dt.training.signals import request_stop


class Steady:
    """A text stream whose `write` and `flush` never raise.

    Characters that the encoding lacks are written as `?`. Nothing more is written once the reader has gone or the disk
    of a log is full. An active run then saves and stops as after SIGTERM, but with the number of SIGPIPE.
    """

    def __init__(self, stream: Any, stops_runs: bool) -> None:
        self._stream, self._stops_runs, self._broken = stream, stops_runs, False

    def write(self, text: str) -> int:
        """Write `text`; returns its length, as a file does."""
        if self._broken:
            self._note()
            return len(text)
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding or "ascii"
            return self.write(text.encode(encoding, errors="replace").decode(encoding))
        except OSError:
            self._break()
        return len(text)

    def flush(self) -> None:
        """Flush; text that cannot be written is dropped."""
        try:
            self._stream.flush()
        except OSError:
            self._break()

    def _break(self) -> None:
        self._broken = True
        # Otherwise the interpreter would fail at exit to write what the stream still holds.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            number, nowhere = self._stream.fileno(), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)
        self._note()

    def _note(self) -> None:
        if self._stops_runs:
            request_stop(signal.SIGPIPE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def steady_streams() -> Iterator[None]:
    """Make standard output and error steady while the context is open."""
    _fill_closed()
    before = sys.stdout, sys.stderr
    streams = Steady(before[0], stops_runs=True), Steady(before[1], stops_runs=False)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def short_warnings() -> Iterator[None]:
    """Show a `UserWarning`, which is meant for the user, as one line without file and source."""
    before = warnings.formatwarning

    def short(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        own = category is UserWarning
        return f"warning: {message}\n" if own else before(message, category, filename, lineno, line)

    warnings.formatwarning = short
    try:
        yield
    finally:
        warnings.formatwarning = before


def _fill_closed() -> None:
    """Open the null device for each closed standard stream: else the next opened file would become that stream."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115
