"""`snn-dt sweep`: run a grid of trainings in parallel; the same command resumes it."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from snn_dt.cli.arguments import parse
from snn_dt.device import available_cores
from snn_dt.errors import ConfigError, TrainingError
from snn_dt.io import writable_folder
from snn_dt.training.sweep.executors import Backend, LocalProcesses, RayTasks
from snn_dt.training.sweep.folder import prepare
from snn_dt.training.sweep.grid import SweepConfig, read_sweep
from snn_dt.training.sweep.scheduler import TrialStatus, run_sweep
from snn_dt.training.sweep.summary import write_summary
from snn_dt.training.sweep.view import View


@dataclass(frozen=True)
class SweepArguments:
    """Run a grid of trainings. The same command resumes a sweep: finished trials are skipped."""

    config: Path
    """Sweep file, see configs/sweep/."""
    run_root: Path | None = None
    """Folder of the trials' run folders; null takes runs/<name of the sweep file>."""
    processes: int = 0
    """Trials in parallel; 0 takes one per core (on a cluster: one per free slot)."""
    address: str | None = None
    """Ray cluster to run on: host:port, ray://host:port, or `auto`; null starts Ray on this machine."""
    local: bool = False
    """Use processes of this machine instead of Ray."""
    list: bool = False
    """Only make the run folders and print one command per trial, for example for a SLURM array."""
    trust_env_spec: bool = False
    """Trust the files: import and run the environments, wrappers and arguments that datasets and configs describe."""


def sweep_main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit status: 0, or 128 + n after signal n. A stopped sweep can be resumed.

    Raises:
        TrainingError: some trials failed.
    """
    args = parse(SweepArguments, arguments, "snn-dt sweep", bare_flags=True)
    _check(args)
    sweep, trials = read_sweep(args.config, args.trust_env_spec)
    root = args.run_root or Path("runs") / args.config.stem
    writable_folder(root)
    for trial in trials:
        prepare(root / trial.name, trial)
    if args.list:
        for trial in trials:
            trust = " --trust-env-spec" if args.trust_env_spec else ""
            print(f"snn-dt trial --run_dir {shlex.quote(str(root / trial.name))}{trust}")
        return 0
    statuses = [TrialStatus(trial, (root / trial.name).resolve()) for trial in trials]
    view = View(statuses)
    view.say(f"sweep {args.config.stem}: {len(statuses)} trials in {root} ({view.counts()})")
    signum = None
    if any(status.state != "done" for status in statuses):
        backend = _backend(args, sweep)
        try:
            with view:
                signum = run_sweep(statuses, backend, sweep.retries, view, lambda: write_summary(root, statuses))
        finally:
            backend.close()
    write_summary(root, statuses)
    print(f"{view.counts()}; summary: {root / 'summary.csv'}")
    if signum is not None:
        file = sys.stderr if signum == signal.SIGPIPE else sys.stdout
        print(f"go on with: snn-dt sweep {' '.join(map(shlex.quote, arguments))}", file=file)
        return 128 + signum
    if failed := [status for status in statuses if status.state == "failed"]:
        raise TrainingError(
            f"expected all trials to finish, found {len(failed)} failed, the first {failed[0].trial.name}: "
            f"{failed[0].error}; mend what it says and run the same command again"
        )
    return 0


def _backend(args: SweepArguments, sweep: SweepConfig) -> Backend:
    cores = available_cores()
    if args.address:
        return RayTasks(args.address, args.processes, sweep.threads or 1, sweep.gpus, args.trust_env_spec)
    # Trials in parallel and threads per trial together use each core once.
    slots = args.processes or max(1, cores // (sweep.threads or 1))
    threads = sweep.threads or max(1, cores // slots)
    if not args.local:
        return RayTasks(None, slots, threads, sweep.gpus, args.trust_env_spec)
    return LocalProcesses(slots, threads, args.trust_env_spec)


def _check(args: SweepArguments) -> None:
    if args.processes < 0:
        raise ConfigError(f"snn-dt sweep: expected --processes of at least 0, found {args.processes}")
    if args.local and args.address:
        raise ConfigError("snn-dt sweep: expected --local or --address, found both; --address names a Ray cluster")
