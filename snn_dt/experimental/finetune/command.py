"""`snn-dt finetune`: continue the training of a model in its environment."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from snn_dt.command import Outcome, RunCommand, TrustedRunFlags
from snn_dt.experimental.finetune.config import FinetuneConfig, load_finetune_config, validate_finetune


@dataclass(frozen=True)
class FinetuneArguments(TrustedRunFlags, FinetuneConfig):
    """Fine-tune a trained model in its environment. Flags override the config files; files override defaults."""


def _finetune(config: FinetuneConfig, run_dir: Path, resume: bool, trust: bool) -> Outcome:
    from snn_dt.experimental.finetune.run import FinetuneRun

    run = FinetuneRun(config, run_dir, resume, trust)
    signum = run.train()
    summary = (
        f"environment steps: {run.loop.env_steps}\n"
        f"run: {run_dir}\nevaluate it with: snn-dt evaluate --checkpoint {shlex.quote(str(run_dir))}"
    )
    return Outcome(run.loop.iteration, config.update.iterations, signum, tuple(run.rows), summary)


def _new_folder(config: FinetuneConfig) -> Path:
    name = Path(config.checkpoint).name[:100]
    return Path("runs") / f"finetune-{name}-seed{config.update.seed}-{datetime.now():%Y%m%d-%H%M%S}"


FINETUNE = RunCommand(
    "finetune", "iteration", FinetuneArguments, load_finetune_config, validate_finetune, _new_folder, _finetune
)
