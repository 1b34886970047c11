"""`snn-dt online`: a spiking policy learns to hover, from a guide and from its own flights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from snn_dt.cli.run_folder import hold, read_run, stopped
from snn_dt.experimental.online.config import OnlineConfig, load_online_config, validate_online


@dataclass(frozen=True)
class OnlineArguments(OnlineConfig):
    """Teach a spiking policy to hover online. Flags win over the config file, the file over the defaults shown here."""

    config: tuple[Path, ...] = ()
    """YAML files, see configs/online/, each laid over those before it."""
    run_dir: Path | None = None
    """New folder for the run; none makes one under runs/."""
    resume: Path | None = None
    """Run folder to go on with, as if it had never stopped; takes no other flag."""


def online_main(arguments: Sequence[str]) -> int:
    """Run the command; 128 + n after signal n, with a run that can be resumed."""
    run_dir, config, resume = read_run(
        arguments, "snn-dt online", OnlineArguments, load_online_config, validate_online, _new_folder
    )
    from snn_dt.experimental.online.run import OnlineRun

    with hold(run_dir, resume):
        run = OnlineRun(config, run_dir, resume)
        score, signum = run.train()
    if signum is not None:
        return stopped("snn-dt online", run_dir, signum, "iteration", run.trainer.iteration, config.train.iterations)
    if score:
        print(
            f"return {score['return']:.1f} +- {score['return_std']:.1f} over {config.eval.flights} flights, in the air "
            f"for {score['length']:.0f} steps, {score['distance']:.2f} m from the target at the end"
        )
    print(f"run: {run_dir}")
    return 0


def _new_folder(config: OnlineConfig) -> Path:
    return Path("runs") / f"online-seed{config.train.seed}-{datetime.now():%Y%m%d-%H%M%S}"
