"""`snn-dt rsnn`: train a recurrent spiking network on a small task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_dt.command import Outcome, RunCommand, RunFlags
from snn_dt.experimental.rsnn.config import RSNNConfig, load_rsnn_config, validate_rsnn

if TYPE_CHECKING:
    from snn_dt.training.console import Console


@dataclass(frozen=True)
class RSNNArguments(RunFlags, RSNNConfig):
    """Train a recurrent spiking network. Flags override the config files, the files override the defaults."""


class PrintedTests:
    """A metric sink that prints the test error of an evaluation."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Print one line if the metrics are those of an evaluation."""
        if "test_error" in metrics:
            rate, operations = 1000 * metrics["test_firing_rate"], metrics["test_operations"]
            self.console.print(
                f"evaluation at step {step}: error {metrics['test_error']:.4g}, {rate:.1f} Hz, {operations:.4g} "
                "accumulates per sample"
            )

    def log_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Do nothing: these networks have no environment."""


def _rsnn(config: RSNNConfig, run_dir: Path, resume: bool, trust: bool) -> Outcome:
    from snn_dt import strict
    from snn_dt.experimental.rsnn.run import RSNNRun
    from snn_dt.training.console import Console
    from snn_dt.training.signals import StopSignal
    from snn_dt.training.sinks import MetricSinks
    from snn_dt.training.tracking import Tracker

    run, finished = RSNNRun(config, run_dir, resume), False
    tracker = Tracker(run_dir, config.track, strict.to_dict(config), run.state.step if resume else None)
    try:
        with Console() as console, StopSignal() as stop:
            console.print(f"run folder   {run_dir}")
            console.start(config.learn.steps, run.state.step)
            finished = run.train(MetricSinks(tracker, console, PrintedTests(console)), stop)
    finally:
        tracker.finish(0 if finished else 1)
    summary = f"run: {run_dir}, error {-run.state.best_score:.4g} at best, {run.state.step} updates"
    return Outcome(run.state.step, config.learn.steps, None if finished else stop.signum or 0, summary=summary)


def _new_folder(config: RSNNConfig) -> Path:
    name = f"{config.task.kind}-{config.learn.rule}-seed{config.learn.seed}-{datetime.now():%Y%m%d-%H%M%S}"
    return Path("runs") / "rsnn" / name


RSNN = RunCommand("rsnn", "update", RSNNArguments, load_rsnn_config, validate_rsnn, _new_folder, _rsnn)
