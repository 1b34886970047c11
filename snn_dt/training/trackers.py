"""Trackers of experiments beside metrics.jsonl: wandb, TensorBoard and trackio, each behind three methods."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from snn_dt.config import TrackConfig
from snn_dt.training.records import Curve, Record
from snn_dt.training.wandb_run import start_run


@dataclass(frozen=True)
class RunStart:
    """What a tracker knows when a run starts."""

    run_dir: Path
    settings: TrackConfig
    config: dict[str, Any]
    """The resolved configuration, in plain values."""
    step: int | None
    """The update from which the run is resumed; None for a new run."""
    say: Callable[[str], None]
    """Prints a line for the user."""

    @property
    def name(self) -> str:
        """Name of the run: the one of the settings, or that of the run folder."""
        return self.settings.name or self.run_dir.resolve().name


class ExperimentTracker(Protocol):
    """Receives a run. A method may raise anything: the run goes on without this tracker."""

    def start(self, run: RunStart, /) -> bool:
        """Begin or resume. False if there is nothing to send to, which the tracker has said."""

    def log(self, step: int, record: Record, /) -> None:
        """Receive metrics, an evaluation, pictures or a checkpoint. Steps never decrease."""

    def finish(self, exit_code: int, /) -> None:
        """End; `exit_code` is 0 for a finished run."""


class WandbTracker:
    """Weights & Biases; `track.wandb` says whether online or offline."""

    def start(self, run: RunStart) -> bool:
        """Start a run, or resume it under its id. False if wandb is missing or disabled."""
        self._run = start_run(run.run_dir, run.settings, run.config, run.step is not None, run.say)
        if self._run is not None:
            self._run.define_metric("eval/return", summary="max")
            self._run.define_metric("eval/return/*", summary="max")
        return self._run is not None

    def log(self, step: int, record: Record) -> None:
        """Log scalars, a histogram or table of layers, a table and a chart with interval of returns, media, models."""
        import wandb

        run = self._run

        values: dict[str, Any] = dict(record.scalars)
        if record.layers and record.table:
            layers = [[name, rate] for name, rate in record.layers.items()]
            values["spikes/layers"] = wandb.Table(columns=["layer", "firing rate"], data=layers)
        elif record.layers:
            values["spikes/layers"] = wandb.Histogram(list(record.layers.values()))
        if record.table:
            # Rows may differ in their keys, so the table has the union of all.
            columns: list[Any] = list(dict.fromkeys(key for row in record.table for key in row))
            data = [[row.get(key) for key in columns] for row in record.table]
            values["eval/table"] = wandb.Table(columns=columns, data=data, allow_mixed_types=True)
        values |= {f"eval/return_with_interval/{name}": _chart(name, c) for name, c in record.curves.items()}
        for name, content in record.media.items():
            values[f"media/{name}"] = (
                wandb.Video(str(content), format="mp4") if isinstance(content, Path) else wandb.Image(_picture(content))
            )
        # A resumed run repeats the steps after its checkpoint with the same numbers. wandb already has them.
        if values and step >= getattr(run, "step", 0):
            run.log(values, step=step)
        if record.checkpoint is not None:
            folder, aliases = record.checkpoint
            artifact = wandb.Artifact(f"checkpoint-{run.id}", type="model")
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):  # add_dir would print
                artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
            run.log_artifact(artifact, aliases=list(aliases))

    def finish(self, exit_code: int) -> None:
        """Close the run."""
        self._run.finish(exit_code=exit_code)


class TensorBoardTracker:
    """TensorBoard; its files are in the run folder, in `tensorboard/`. It has no table and no video."""

    def start(self, run: RunStart) -> bool:
        """Open the writer. Steps after the one of a resumed run are purged."""
        module = _installed("torch.utils.tensorboard", "tensorboard")
        purge = None if run.step is None else run.step + 1
        self._writer = module.SummaryWriter(str(run.run_dir / "tensorboard"), purge_step=purge)
        self._charts: set[str] = set()
        return True

    def log(self, step: int, record: Record) -> None:
        """Write scalars, a histogram of layers, a chart of each target with its interval, and pictures."""
        import numpy as np

        for name, value in record.scalars.items():
            self._writer.add_scalar(name, value, step)
        if record.layers:
            self._writer.add_histogram("spikes/layers", np.array(list(record.layers.values())), step)
        if record.curves.keys() - self._charts:
            self._charts |= record.curves.keys()
            parts = ("return", "return_low", "return_high")
            charts = {f"target {n}": ["Margin", [f"eval/{part}/{n}" for part in parts]] for n in sorted(self._charts)}
            self._writer.add_custom_scalars({"return with interval": charts})
        for name, content in record.media.items():
            if isinstance(content, bytes):
                self._writer.add_image(f"media/{name}", np.asarray(_picture(content)), step, dataformats="HWC")

    def finish(self, exit_code: int) -> None:
        """Write what is left."""
        self._writer.close()


class TrackioTracker:
    """trackio, the local tracker of Hugging Face. `trackio show` draws its charts."""

    def start(self, run: RunStart) -> bool:
        """Start a run, or resume the one of the same name."""
        self._trackio = _installed("trackio", "trackio")
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a banner
            self._run = self._trackio.init(
                project=run.settings.project,
                name=run.name,
                group=run.settings.group,
                config=run.config,
                resume="never" if run.step is None else "allow",
                auto_log_gpu=False,
                auto_log_cpu=False,
                embed=False,
            )
        return True

    def log(self, step: int, record: Record) -> None:
        """Log scalars, tables of layers and of an evaluation, and media."""
        values: dict[str, Any] = dict(record.scalars)
        if record.layers and record.table:
            layers = [[name, rate] for name, rate in record.layers.items()]
            values["spikes/layers"] = self._trackio.Table(columns=["layer", "firing rate"], data=layers)
        elif record.layers:
            values["spikes/layers"] = self._trackio.Histogram(list(record.layers.values()))
        for name, content in record.media.items():
            video = isinstance(content, Path)
            values[f"media/{name}"] = (
                self._trackio.Video(str(content)) if video else self._trackio.Image(_picture(content))
            )
        if values:
            with contextlib.redirect_stdout(io.StringIO()):
                self._run.log(values, step=step)

    def finish(self, exit_code: int) -> None:
        """Send what is left."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._trackio.finish()


TRACKERS: dict[str, Callable[[], ExperimentTracker]] = {
    "wandb": WandbTracker,
    "tensorboard": TensorBoardTracker,
    "trackio": TrackioTracker,
}
"""The trackers by their names in `track.tracker`."""


def _installed(module: str, extra: str) -> Any:
    """Return a module of an optional package, or raise ModuleNotFoundError with the line that installs it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; pip install 'snn-dt[{extra}]'") from None


def _chart(name: str, curve: Curve) -> Any:
    """Return a chart of wandb with the mean return at a target and both ends of its interval."""
    import wandb

    steps, *lines = zip(*curve, strict=True)
    keys = ["mean", "low end of 95 % interval", "high end"]
    ys = [list(line) for line in lines]
    return wandb.plot.line_series(xs=list(steps), ys=ys, keys=keys, title=f"return at target {name}", xname="update")


def _picture(png: Any) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(png)).convert("RGB")
