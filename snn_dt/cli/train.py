"""`snn-dt train`: train a model on a dataset, or resume a run."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from snn_dt.command import Outcome, RunCommand, TrustedRunFlags
from snn_dt.config import Config, load_config, validate


@dataclass(frozen=True)
class TrainArguments(TrustedRunFlags, Config):
    """Train a model on a dataset: `snn-dt train PRESET [--variant NAME ...]` (see `snn-dt list`), or with `--config`.

    Flags override the config files; the files override the defaults shown here.
    """

    variant: tuple[str, ...] = ()
    """Variants by name, such as snn_dt_stream; each one overrides the preset, the files and those before it."""


def _train(config: Config, run_dir: Path, resume: bool, trust: bool) -> Outcome:
    from snn_dt.run import Run

    run = Run(config, run_dir, resume=resume, trust=trust)
    signum = run.train()
    summary = f"run: {run_dir}\nevaluate it with: snn-dt evaluate --checkpoint {shlex.quote(str(run_dir))}"
    return Outcome(run.state.step, config.train.steps, signum, tuple(run.rows), summary)


def _new_folder(config: Config) -> Path:
    from snn_dt.run import new_run_folder

    return new_run_folder(config)


TRAIN = RunCommand("train", "update", TrainArguments, load_config, validate, _new_folder, _train)
