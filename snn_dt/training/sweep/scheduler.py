"""Scheduler of a sweep: start trials in free slots, retry failed ones and stop all on request."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from snn_dt.training.signals import StopSignal
from snn_dt.training.sweep.executors import POLL_SECONDS, Backend
from snn_dt.training.sweep.folder import TAKEN_OVER_STATUS, read
from snn_dt.training.sweep.grid import Trial
from snn_dt.training.sweep.progress import Progress
from snn_dt.training.sweep.view import View

USER_ERROR_STATUS = 2


class TrialStatus:
    """State and progress of a trial."""

    def __init__(self, trial: Trial, folder: Path) -> None:
        self.trial, self.folder, self.steps = trial, folder, trial.config.train.steps
        self.progress = Progress(folder)
        self.progress.refresh()
        self.state: Literal["waiting", "running", "done", "failed", "stopped"] = "waiting"
        self.failures = 0
        self.error = ""
        if self.finished:
            self.state = "done"

    @property
    def finished(self) -> bool:
        """Whether the trial has written its result."""
        return bool(read(self.folder / "result.json"))

    def last_output(self, lines: int = 3) -> str:
        """Return the last printed lines of the trial, joined to one line."""
        try:
            with (self.folder / "log.txt").open("rb") as log:
                # The end of the file is enough; logs can be long.
                log.seek(max(0, log.seek(0, 2) - 4096))
                text = log.read().decode(errors="replace")
        except OSError as error:
            return f"no log ({error.strerror})"
        return " | ".join([" ".join(line.split()) for line in text.splitlines() if line.strip(" ~^")][-lines:])


def run_sweep(
    statuses: Sequence[TrialStatus], backend: Backend, retries: int, view: View, summarize: Callable[[], None]
) -> int | None:
    """Run all unfinished trials. Return the signal that stopped the sweep; None without one.

    A trial that ends with a user error (status 2) fails at once, because it would fail again. So does a trial that
    another sweep has taken over. Any other failed trial is resumed, up to `retries` times. After a signal the running
    trials save and stop; a second signal kills them.

    Args:
        statuses: the trials. Their states are updated.
        backend: runs the trials.
        retries: how often a failed trial is resumed.
        view: displays events.
        summarize: called after a trial has ended.
    """
    waiting = deque(status for status in statuses if status.state == "waiting")
    running: dict[TrialStatus, Any] = {}
    stopping = False
    with StopSignal() as stop:
        try:
            while running or (waiting and stop.signum is None):
                while waiting and stop.signum is None and backend.free(len(running)):
                    status = waiting.popleft()
                    running[status], status.state = backend.start(status.folder), "running"
                    verb = f"goes on after update {status.progress.step}" if status.progress.step else "starts"
                    view.say(f"{status.trial.name} {verb}")
                if stop.signum is not None and not stopping:
                    stopping = True
                    view.say(f"stopping {len(running)} trials where they can go on (once more kills them)")
                    for handle in running.values():
                        backend.stop(handle)
                for status, handle in list(running.items()):
                    status.progress.refresh()
                    if (code := backend.poll(handle)) is not None:
                        del running[status]
                        _settle(status, code, retries, stop.signum is not None, view)
                        if status.state == "waiting":
                            # A retry comes first, since it has less left to do than a new trial.
                            waiting.appendleft(status)
                        summarize()
                view.show()
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            for status, handle in running.items():
                backend.stop(handle, force=True)
                status.state = "stopped"
            stop.signum = signal.SIGINT
    return stop.signum


def _settle(status: TrialStatus, code: int, retries: int, stopping: bool, view: View) -> None:
    """Set the state of a trial whose process has ended."""
    status.progress.refresh()
    name = status.trial.name
    # A result counts even if the process ended with an error afterwards.
    if status.finished:
        status.state, status.error = "done", ""
        last = status.progress.last_return
        view.say(f"{name} done" + ("" if last is None else f", return {last:.5g}"))
        return
    if code == TAKEN_OVER_STATUS:
        status.error = "another process has taken it over; is a second sweep at work in this folder?"
    else:
        status.error = f"{_ending(code)}: {status.last_output()}"
    if stopping:
        status.state = "stopped"
        view.say(f"{name} stopped after update {status.progress.step}")
    elif code not in (USER_ERROR_STATUS, TAKEN_OVER_STATUS) and status.failures < retries:
        status.failures += 1
        status.state = "waiting"
        view.say(f"{name} broke off and is tried again ({status.failures} of {retries}): {status.error}")
    else:
        status.state = "failed"
        view.say(f"{name} failed: {status.error}; see {status.folder / 'log.txt'}")


def _ending(code: int) -> str:
    # A shell reports signal n as 128 + n, Python as -n.
    signum = -code if code < 0 else code - 128
    try:
        return f"killed by {signal.Signals(signum).name}"
    except ValueError:
        return f"exit status {code}"
