"""The loop of runs that count iterations, with metrics, progress, stop requests and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.config import save_config
from snn_dt.training.console import Console
from snn_dt.training.signals import StopSignal
from snn_dt.training.tracking import Tracker


def run_iterations(
    config: Any,
    run_dir: Path,
    console: Console,
    total: int,
    done: int | None,
    save_every: int,
    iterate: Callable[[Tracker], int],
    save: Callable[[], None],
    before: Callable[[Tracker], None] | None = None,
) -> int | None:
    """Iterate up to `total`, or to the end of the iteration in which a signal arrives; returns the signal's number.

    Args:
        config: a dataclass with a `track` section; written to the folder of a new run.
        run_dir: the run folder.
        console: shows progress.
        total: iterations of the whole run.
        done: iterations that a resumed run has done; None for a new run.
        save_every: iterations between two saves; the last one always saves.
        iterate: makes one iteration, logs it, and returns how many are done.
        save: writes the checkpoint.
        before: called before the first iteration of a run that has done none.
    """
    if done is None:
        save_config(config, run_dir / "config.yaml")
    # A run that was killed before its first save starts again and logs step 0 again.
    kept = -1 if done == 0 else done
    tracker, now = Tracker(run_dir, config.track, strict.to_dict(config), kept), done or 0
    try:
        with console, StopSignal() as stop:
            console.start(total, now)
            if now == 0 and before is not None:
                before(tracker)
            while now < total and stop.signum is None:
                now = iterate(tracker)
                if now >= total or stop.signum is not None or now % save_every == 0:
                    save()
    finally:
        tracker.finish(0 if now >= total else 1)
    return stop.signum if now < total else None
