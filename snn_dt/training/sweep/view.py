"""Display of a sweep: a live table on a terminal and plain lines elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from snn_dt.training.sweep.scheduler import TrialStatus

COLORS = {"done": "green", "running": "cyan", "failed": "red", "stopped": "yellow", "waiting": "dim"}
TABLE_SECONDS, LINE_SECONDS = 1.0, 60.0


class View:
    """Shows the trials of a sweep. As a context manager it leaves the last table on the screen.

    Without a terminal it prints the events of each trial. Every minute it prints the number of trials in each state.
    """

    def __init__(self, statuses: Sequence[TrialStatus]) -> None:
        self._statuses = statuses
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False) if live else None
        self._due = time.monotonic() + (TABLE_SECONDS if live else LINE_SECONDS)

    def say(self, text: str) -> None:
        """Print a line above the table."""
        self._console.print(text)
        self._console.file.flush()

    def show(self) -> None:
        """Redraw the table or print a line if one is due."""
        if time.monotonic() < self._due:
            return
        if self._live is not None:
            self._due = time.monotonic() + TABLE_SECONDS
            self._live.update(self._table(self._console.height - 4), refresh=True)
        else:
            self._due = time.monotonic() + LINE_SECONDS
            running = [f"{s.trial.name} {s.progress.step}/{s.steps}" for s in self._statuses if s.state == "running"]
            self.say(f"{self.counts()}: {', '.join(running)}")

    def counts(self) -> str:
        """Return the number of trials in each state, such as `3 done, 2 running, 7 waiting`."""
        counted = Counter[str](status.state for status in self._statuses)
        return ", ".join(f"{counted[state]} {state}" for state in COLORS if counted[state])

    def _table(self, height: int) -> Table:
        """Return a table of the trials that fit, with running ones first."""
        table = Table(title=self.counts(), expand=False)
        for name in ("trial", "state", "step", "return", "minutes"):
            table.add_column(name, justify="left" if name in ("trial", "state") else "right", no_wrap=True)
        order = ("running", "failed", "stopped", "waiting", "done")
        # At least three rows, also on a very small terminal.
        for status in sorted(self._statuses, key=lambda s: order.index(s.state))[: max(height, 3)]:
            last, color = status.progress.last_return, COLORS[status.state]
            table.add_row(
                status.trial.name,
                Text(status.state, color),
                f"{status.progress.step}/{status.steps}",
                "-" if last is None else f"{last:.4g}",
                f"{status.progress.minutes():.1f}",
            )
        return table

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.update(self._table(len(self._statuses)), refresh=True)
            self._live.stop()
