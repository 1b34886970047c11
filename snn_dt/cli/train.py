"""`snn-dt train`: read the configuration, build the run, train it, say where it is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from snn_dt.cli.arguments import take_trust
from snn_dt.cli.evaluate import print_evaluation
from snn_dt.cli.run_folder import hold, read_run, stopped
from snn_dt.config import Config, load_config, validate


@dataclass(frozen=True)
class TrainArguments(Config):
    """Train a model on a dataset. Flags win over the config file, the file over the defaults shown here."""

    config: tuple[Path, ...] = ()
    """YAML files, see configs/, each laid over those before it."""
    run_dir: Path | None = None
    """New folder for the run; none makes one under runs/."""
    resume: Path | None = None
    """Run folder to go on with, as if it had never stopped; takes no other flag but --trust-env-spec."""
    trust_env_spec: bool = False
    """Trust the files: import and run whatever environment, wrappers and arguments they describe. Never read from a
    file."""


def train_main(arguments: Sequence[str]) -> int:
    """Run the command; 128 + n after signal n, with a run that can be resumed."""
    from snn_dt.run import Run
    from snn_dt.training.distributed import is_first

    run_dir, config, resume = _read(arguments)
    with hold(run_dir, resume) if is_first() else nullcontext():
        run = Run(config, run_dir, resume=resume, trust=take_trust(arguments)[0])
        rows, signum = run.train()
    if not run.workers.first:
        return 0 if signum is None else 128 + signum
    if rows:
        print_evaluation(rows)
    if signum is not None:
        return stopped("snn-dt train", run_dir, signum, "update", run.state.step, config.train.steps)
    print(f"run: {run_dir}\nevaluate it with: snn-dt evaluate --checkpoint {shlex.quote(str(run_dir))}")
    return 0


def _read(arguments: Sequence[str]) -> tuple[Path, Config, bool]:
    """Return the run folder, its configuration, and whether it is resumed."""
    load = partial(load_config, trust=take_trust(arguments)[0])
    return read_run(arguments, "snn-dt train", TrainArguments, load, validate, _new_folder)


def _new_folder(config: Config) -> Path:
    dataset = config.data.dataset.rstrip("/").removeprefix("datasets/").rpartition(":")[2]
    name = "-".join(part for part in dataset.removesuffix(".hdf5").split("/") if part not in ("", ".", ".."))
    return Path("runs") / f"{name[:100]}-{config.model.kind}-seed{config.train.seed}-{datetime.now():%Y%m%d-%H%M%S}"
