"""`snn-dt finetune`: a model that was trained on a dataset goes on learning in its environment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from snn_dt.cli.arguments import take_trust
from snn_dt.cli.evaluate import print_evaluation
from snn_dt.cli.run_folder import hold, read_run, stopped
from snn_dt.experimental.finetune.config import FinetuneConfig, load_finetune_config, validate_finetune


@dataclass(frozen=True)
class FinetuneArguments(FinetuneConfig):
    """Go on with a trained model in its environment. Flags win over the config file, the file over the defaults."""

    config: tuple[Path, ...] = ()
    """YAML files, each laid over those before it."""
    run_dir: Path | None = None
    """New folder for the run; none makes one under runs/."""
    resume: Path | None = None
    """Run folder to go on with, as if it had never stopped; takes no other flag but --trust-env-spec."""
    trust_env_spec: bool = False
    """Trust the files: import and run whatever environment, wrappers and arguments they describe. Never read from a
    file."""


def finetune_main(arguments: Sequence[str]) -> int:
    """Run the command; 128 + n after signal n, with a run that can be resumed."""
    trust = take_trust(arguments)[0]
    load = partial(load_finetune_config, trust=trust)
    run_dir, config, resume = read_run(
        arguments, "snn-dt finetune", FinetuneArguments, load, validate_finetune, _new_folder
    )
    from snn_dt.experimental.finetune.run import FinetuneRun

    with hold(run_dir, resume):
        run = FinetuneRun(config, run_dir, resume, trust)
        signum = run.train()
    if signum is not None:
        return stopped("snn-dt finetune", run_dir, signum, "iteration", run.loop.iteration, config.update.iterations)
    if run.rows:
        print_evaluation(run.rows)
    print(f"environment steps: {run.loop.env_steps}")
    print(f"run: {run_dir}\nevaluate it with: snn-dt evaluate --checkpoint {shlex.quote(str(run_dir))}")
    return 0


def _new_folder(config: FinetuneConfig) -> Path:
    name = Path(config.checkpoint).name[:100]
    return Path("runs") / f"finetune-{name}-seed{config.update.seed}-{datetime.now():%Y%m%d-%H%M%S}"
