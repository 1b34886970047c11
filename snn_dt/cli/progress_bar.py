"""Progress on the terminal: a bar that moves each second, or a line now and then where nothing can move."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from snn_dt.command import plain_console
from snn_dt.training.console import clock

LINE_SECONDS = 30.0
"""Seconds between two lines where there is no terminal."""


class Progress:
    """Shows how far a piece of work is and the time left.

    On a terminal it draws a bar, from the first call on. Elsewhere (a file, a pipe, TERM=dumb) it prints a line every
    30 s.

    Args:
        title: what is done, in front of the bar.
        stderr: draw on standard error.
        lines: print the lines. If false there is nothing off a terminal.
    """

    def __init__(self, title: str, stderr: bool = False, lines: bool = False) -> None:
        self._title, self._lines = title, lines
        self.console = plain_console(stderr=stderr)
        self.live = self.console.is_terminal and not self.console.is_dumb_terminal
        self.done, self.total = 0.0, 0
        self._begin = self._said = time.monotonic()
        self._bar: Any = None

    def __call__(self, done: float, total: int) -> None:
        """Move on to `done` of `total`."""
        self.done, self.total = done, total
        if self.live:
            bar = self._started()
            bar.update(bar.task_ids[0], completed=done, total=total, count=f"{int(done)}/{total}", left=self.left())
        elif self._lines and done < total and time.monotonic() - self._said >= LINE_SECONDS:
            self.print(f"{self._title} {int(done)} of {total}, {self.left()}")

    def print(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._said = time.monotonic()
        self.console.print(text)
        self.console.file.flush()

    def left(self) -> str:
        """Return the time left at the mean speed so far, such as `01:10 left`."""
        spent = time.monotonic() - self._begin
        return f"{clock(spent * (self.total - self.done) / self.done)} left" if self.done else ""

    def stop(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _started(self) -> Any:
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            text = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[count]"))
            left = TextColumn("{task.fields[left]}", markup=False)
            columns = (SpinnerColumn(), next(text), BarColumn(), next(text), TimeElapsedColumn(), left)
            self._bar = Bar(*columns, console=self.console, transient=True)
            self._bar.add_task(self._title, count="", left="")
            self._bar.start()
        return self._bar


@contextmanager
def progress_bar(title: str, stderr: bool = False, lines: bool = False) -> Iterator[Progress]:
    """Yield a `Progress`; the bar is removed at the end."""
    progress = Progress(title, stderr, lines)
    try:
        yield progress
    finally:
        progress.stop()
