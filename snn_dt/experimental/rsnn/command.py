"""`snn-dt rsnn`: train a recurrent spiking network on a small task, or resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.cli.run_folder import hold, read_run, stopped
from snn_dt.experimental.rsnn.config import RSNNConfig, load_rsnn_config, validate_rsnn
from snn_dt.training.sinks import Record


@dataclass(frozen=True)
class RSNNArguments(RSNNConfig):
    """Train a recurrent spiking network. Flags win over the config file, the file over the defaults shown here."""

    config: tuple[Path, ...] = ()
    """YAML files, see configs/rsnn/, each laid over those before it."""
    run_dir: Path | None = None
    """New folder for the run; none makes one under runs/."""
    resume: Path | None = None
    """Run folder to go on with, as if it had never stopped; takes no other flag."""


class Told(Record):
    """A record that also says on the terminal what an evaluation found."""

    def log(self, step: int, metrics: dict[str, Any]) -> None:
        """Hand on the metrics of a step."""
        super().log(step, metrics)
        if "test_error" in metrics:
            rate, operations = 1000 * metrics["test_firing_rate"], metrics["test_operations"]
            self.takers[-1].print(
                f"evaluation at step {step}: error {metrics['test_error']:.4g}, {rate:.1f} Hz, {operations:.4g} "
                "accumulates per sample"
            )


def rsnn_main(arguments: Sequence[str]) -> int:
    """Run the command; 128 + n after signal n, with a run that can be resumed."""
    run_dir, config, resume = read_run(
        arguments, "snn-dt rsnn", RSNNArguments, load_rsnn_config, validate_rsnn, _new_folder
    )
    from snn_dt.experimental.rsnn.run import RSNNRun
    from snn_dt.training.console import Console
    from snn_dt.training.signals import StopSignal
    from snn_dt.training.tracking import Tracker

    with hold(run_dir, resume):
        run, finished = RSNNRun(config, run_dir, resume), False
        tracker = Tracker(run_dir, config.track, strict.to_dict(config), run.state.step if resume else None)
        try:
            with Console() as console, StopSignal() as stop:
                console.print(f"run folder   {run_dir}")
                console.start(config.learn.steps, run.state.step)
                finished = run.train(Told(tracker, console), stop)
        finally:
            tracker.finish(0 if finished else 1)
    if not finished:
        return stopped("snn-dt rsnn", run_dir, stop.signum or 0, "update", run.state.step, config.learn.steps)
    print(f"run: {run_dir}, error {-run.state.best_score:.4g} at best, {run.state.step} updates")
    return 0


def _new_folder(config: RSNNConfig) -> Path:
    name = f"{config.task.kind}-{config.learn.rule}-seed{config.learn.seed}-{datetime.now():%Y%m%d-%H%M%S}"
    return Path("runs") / "rsnn" / name
