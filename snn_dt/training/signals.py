"""Stopping on request: Ctrl-C and SIGTERM ask, the loop stops where a run can be resumed."""

from __future__ import annotations

import math
import signal
import time
from types import FrameType, TracebackType
from typing import Any

_listening: list[StopSignal] = []


def request_stop(signum: int) -> None:
    """Ask the run that listens, if one does, to stop as if signal `signum` had come; once more changes nothing."""
    if _listening:
        _listening[-1].request(signum)


class StopRequestedError(Exception):
    """Raised by `StopSignal.check` so that a long evaluation can be left half-way."""


class StopSignal:
    """While the context is open, SIGINT and SIGTERM set `signum`; a second one interrupts at once.

    What follows within `echo` seconds is the same request: torchrun passes on a Ctrl-C that the terminal sent to all.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self.signum: int | None = None
        self._echo = echo
        self._asked = math.inf
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._previous[signum] = signal.signal(signum, self._note)
        _listening.append(self)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _listening.remove(self)
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if time.monotonic() >= self._asked + self._echo:
            raise KeyboardInterrupt
        self.signum, self._asked = signum, min(self._asked, time.monotonic())

    def request(self, signum: int) -> None:
        """Ask for a stop, unless one was asked for already."""
        if self.signum is None:
            self._note(signum, None)

    def check(self) -> None:
        """Raise `StopRequestedError` if a stop was asked for."""
        if self.signum is not None:
            raise StopRequestedError
