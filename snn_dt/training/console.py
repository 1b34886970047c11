"""Progress of a training run: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any, Self

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn


class _Bar(Progress):
    """A bar that asks where the run is each time it is drawn, so the run need not tell it."""

    look: Callable[[], None] | None = None

    def get_renderables(self) -> Iterable[rich.console.RenderableType]:
        """Move, then draw."""
        if self.look is not None:
            self.look()
        return super().get_renderables()


class Console:
    """A metric sink that shows loss, firing rate, updates/s and time left.

    On a terminal it draws a bar below the printed lines. Elsewhere (a file, a pipe, TERM=dumb) it prints and flushes a
    line per call of `log`. As a context manager it stops the bar at exit.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        """Write to `file`; None is the standard output at the time of writing."""
        self._console = rich.console.Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=True)
        # A dumb terminal cannot move its cursor.
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._progress: _Bar | None = None
        self._shown = ""

    def start(self, total: int, initial: int = 0, position: Callable[[], int] | None = None) -> None:
        """Begin at update `initial` of `total`. The bar moves to `position()` when it is drawn, or with `log` only."""
        self._total, self._step, self._time = total, initial, time.monotonic()
        self._begin, self._begin_time = initial, self._time
        if self._live:
            self._progress = _Bar(
                SpinnerColumn(),  # turns although an update takes long
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[metrics]}", style="cyan", markup=False),
                TextColumn("{task.fields[left]}", markup=False),
                console=self._console,
                expand=True,
            )
            self._task = self._progress.add_task("", total=total, completed=initial, metrics="", left="")
            self._progress.look = None if position is None else lambda: self._move(position())
            self._progress.start()

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Move to `step`. Show the metrics if they have a `loss`; a `firing_rate` is optional."""
        shown = "loss" in metrics
        if shown:
            self._shown = self._describe(step, metrics)
        if self._progress is not None:
            self._move(step)
        elif shown:
            self.print(f"update {step}/{self._total}  {self._shown}  {self._left(step)}".rstrip())

    def log_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Print one line per target return of an evaluation."""
        self.evaluating(1, 1)
        for row in rows:
            low, high = row.get("return_interval") or (float("nan"), float("nan"))
            self.print(
                f"evaluation at update {step}: target {row['target_return']:g}, return {row['return_mean']:.5g} "
                f"[{low:.5g}, {high:.5g}] over {row['episodes']} episodes{success_text(row)}"
            )

    def evaluating(self, done: float, total: int) -> None:
        """Show on the bar that an evaluation is at episode `done` of `total`."""
        if self._progress is not None:
            self._progress.update(self._task, description="" if done >= total else f"evaluate {int(done)}/{total}")

    def print(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text)
        self._console.file.flush()

    def _describe(self, step: int, metrics: Mapping[str, Any]) -> str:
        now = time.monotonic()
        speed = metrics.get("steps_per_second") or (step - self._step) / max(now - self._time, 1e-9)
        self._step, self._time = step, now
        parts = [f"loss {_short(metrics['loss'])}"]
        if "firing_rate" in metrics:
            parts.append(f"firing {metrics['firing_rate']:.3f}")
        return "  ".join([*parts, f"{speed:.3g} updates/s"])

    def _move(self, step: int) -> None:
        if self._progress is not None:
            self._progress.update(self._task, completed=step, metrics=self._shown, left=self._left(step))

    def _left(self, step: int) -> str:
        """Return the time left, at the speed since the start, which varies less than that since the last line."""
        spent = time.monotonic() - self._begin_time
        if step == self._begin:
            return ""
        return f"{clock((self._total - step) * spent / (step - self._begin))} left"

    def stop(self) -> None:
        """Stop the bar and leave it visible. Further calls do nothing."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _short(value: float) -> str:
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def clock(seconds: float) -> str:
    """Return a time as `mm:ss` or `h:mm:ss`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def success_text(row: Mapping[str, Any]) -> str:
    """Return the success rate of an evaluation as the end of a line; "" if the environment reports none."""
    rate, bounds = row.get("success_rate"), row.get("success_interval")
    between = f" [{bounds[0]:.0%}, {bounds[1]:.0%}]" if bounds else ""
    return "" if rate is None else f", {rate:.0%}{between} successful"
