"""`snn-dt online`: train a spiking policy in its environment, with or without a guide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from snn_dt.command import Outcome, RunCommand, TrustedRunFlags
from snn_dt.experimental.online.config import OnlineConfig, load_online_config, validate_online


@dataclass(frozen=True)
class OnlineArguments(TrustedRunFlags, OnlineConfig):
    """Train a spiking policy to hover online. Flags override the config files, the files override the defaults."""


def _online(config: OnlineConfig, run_dir: Path, resume: bool, trust: bool) -> Outcome:
    from snn_dt.experimental.online.run import OnlineRun

    run = OnlineRun(config, run_dir, resume)
    score, signum = run.train()
    summary = f"run: {run_dir}"
    if score:
        summary = (
            f"return {score['return']:.1f} +- {score['return_std']:.1f} over {config.eval.flights} flights from seed "
            f"{config.eval.seed}, {score['length']:.0f} steps long, {score['lasted']:.1%} to the end\n{summary}"
        )
    return Outcome(run.trainer.iteration, config.train.iterations, signum, summary=summary)


def _new_folder(config: OnlineConfig) -> Path:
    return Path("runs") / f"online-seed{config.train.seed}-{datetime.now():%Y%m%d-%H%M%S}"


ONLINE = RunCommand("online", "iteration", OnlineArguments, load_online_config, validate_online, _new_folder, _online)
