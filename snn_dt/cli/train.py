"""`snn-dt train`: read the configuration, build the run, train it, say where it is."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from pathlib import Path

from snn_dt.cli.arguments import parse
from snn_dt.cli.evaluate import print_evaluation, writable_folder
from snn_dt.config import Config, load_config, validate
from snn_dt.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class TrainArguments(Config):
    """Train a model on a dataset. Flags win over the config file, the file over the defaults shown here."""

    config: tuple[Path, ...] = ()
    """YAML files, see configs/, each laid over those before it."""
    run_dir: Path | None = None
    """New folder for the run; none makes one under runs/."""
    resume: Path | None = None
    """Run folder to go on with, as if it had never stopped; takes no other flag."""


def train_main(arguments: Sequence[str]) -> int:
    """Run the command; 128 + n after signal n, with a run that can be resumed."""
    from snn_dt.cli.run import Run
    from snn_dt.training.distributed import is_first

    run_dir, config, resume = _read(arguments)
    if not resume and is_first():
        _check_new(run_dir)
    run = Run(config, run_dir, resume=resume)  # what cannot be run leaves no folder behind
    if not run.workers.first:
        return 128 + signum if (signum := run.train()[1]) is not None else 0
    writable_folder(run_dir)
    rows, signum = run.train()
    if rows:
        print_evaluation(rows)
    if signum is not None:
        print(f"stopped after update {run.state.step} of {config.train.steps}")
        print(f"go on with: snn-dt train --resume {shlex.quote(str(run_dir))}")
        return 128 + signum
    print(f"run: {run_dir}\nevaluate it with: snn-dt evaluate --checkpoint {shlex.quote(str(run_dir))}")
    return 0


def _read(arguments: Sequence[str]) -> tuple[Path, Config, bool]:
    """Return the run folder, its configuration, and whether it is resumed."""
    if resume := _flag(arguments, "--resume"):
        if list(arguments) not in (["--resume", resume[0]], [f"--resume={resume[0]}"]):
            raise ConfigError(
                "expected --resume DIR alone (a run keeps its config), found other flags too; leave them out"
            )
        folder = Path(resume[0])
        if not (folder / "config.yaml").is_file():
            raise CheckpointError(
                f"expected a run folder with a config.yaml at {folder}, found none; see the runs in runs/"
            )
        return folder, load_config(folder / "config.yaml"), True
    base = load_config(*_flag(arguments, "--config"))
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(Config)}
    args = parse(TrainArguments, arguments, "snn-dt train", TrainArguments(**fields))
    config = Config(**{name: getattr(args, name) for name in fields})
    validate(config)
    return args.run_dir or _new_run_dir(config), config, False


def _flag(arguments: Sequence[str], name: str) -> list[str]:
    """Find a flag's values, wherever it stands, before the others are read, whose defaults depend on them."""
    values = []
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == name:
            found = [value] if equals else []
            found += takewhile(lambda word: not word.startswith("--"), arguments[i + 1 :])
            if not found:
                raise ConfigError(f"snn-dt train: expected a path after {name}, found none; name one or leave it out")
            values += found
    return values


def _new_run_dir(config: Config) -> Path:
    dataset = config.data.dataset.rstrip("/").removeprefix("datasets/").rpartition(":")[2]
    name = "-".join(part for part in dataset.removesuffix(".hdf5").split("/") if part not in ("", ".", ".."))
    return Path("runs") / f"{name}-{config.model.kind}-seed{config.train.seed}-{datetime.now():%Y%m%d-%H%M%S}"


def _check_new(run_dir: Path) -> None:
    if (run_dir / "config.yaml").exists() or (run_dir / "checkpoints").exists():
        raise CheckpointError(
            f"expected a new run folder, found a run at {run_dir}; go on with it (--resume {run_dir}), choose another "
            "--run-dir, or delete it"
        )
