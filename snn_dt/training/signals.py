"""Stop requests: after Ctrl-C or SIGTERM a run saves and stops, and can be resumed."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

_active: list[StopSignal] = []


def request_stop(signum: int) -> None:
    """Stop the active run as if it had received signal `signum`. Repeated calls have no effect."""
    if _active:
        _active[-1].request(signum)


class StopRequestedError(Exception):
    """Raised by `StopSignal.check` to end an evaluation early."""


class StopSignal:
    """Context in which SIGINT and SIGTERM set `signum`. A second signal raises KeyboardInterrupt.

    A second signal within `echo` seconds counts as a repetition of the first. Python handles signals in the main thread
    only. In another thread this context installs no handlers.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self.signum: int | None = None
        self._echo = echo
        self._requested_at = math.inf
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        # `signal.signal` raises in any other thread.
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._previous[signum] = signal.signal(signum, self._note)
        _active.append(self)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _active.remove(self)
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        # Before the first signal `_requested_at` is infinite, so this is a second one.
        if time.monotonic() >= self._requested_at + self._echo:
            raise KeyboardInterrupt
        self.signum, self._requested_at = signum, min(self._requested_at, time.monotonic())

    def request(self, signum: int) -> None:
        """Request a stop unless one is already requested."""
        if self.signum is None:
            self._note(signum, None)

    def check(self) -> None:
        """Raise `StopRequestedError` if a stop is requested."""
        if self.signum is not None:
            raise StopRequestedError
