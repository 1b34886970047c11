"""The results table, made again: trains what is missing of a plan, evaluates it, writes the table.

    python scripts/reproduce.py [--plan classic|mujoco|d4rl|long|dropout|budget|stream] [--only cartpole ...]
                                [--variants dense ...] [--seeds N] [--jobs N] [--again] [--table-only] [--pretrained]
                                [--allow-dirty]

A plan is a sweep file in configs/reproduce/. Runs live in runs/reproduce/<plan>/ and go on where they stopped. Each
finished run becomes results/runs/<plan>/<run>.json, and is not run again while that is there. From these come
results/runs.csv, the table in results/README.md and the figures. `--again` makes recorded runs once more, beside the
records, and compares.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.checkpoint import provenance
from snn_dt.cli.arguments import parse
from snn_dt.cli.main import handle_errors
from snn_dt.config_difference import difference
from snn_dt.device import available_cores
from snn_dt.errors import ConfigError, TrainingError
from snn_dt.experimental.results.files import write_short_tables, write_table
from snn_dt.experimental.results.pretrained import own_figure, read_figures, write_figures, write_page
from snn_dt.experimental.results.records import current, read_record, uncommitted, write_record
from snn_dt.io import write_atomically
from snn_dt.jsonl import dumps
from snn_dt.training.sweep.executors import LocalProcesses
from snn_dt.training.sweep.folder import prepare, read
from snn_dt.training.sweep.grid import Trial, read_sweep
from snn_dt.training.sweep.scheduler import TrialStatus, run_sweep
from snn_dt.training.sweep.view import View

ROOT = Path(__file__).resolve().parents[1]
PLANS = Path("configs/reproduce")
AGAIN = Path("runs/again")
SHIPPED = {
    "dense": "dense",
    "dense-top10": "dense",
    "snn_dt-full": "snn_dt",
    "snn_dt-top10": "snn_dt",
    "snn_dt-budget-0.5M": "snn_dt-sparse",
    "snn_dt-budget-4M": "snn_dt-sparse",
    "snn_dt_stream": "snn_dt_stream",
    "snn_dt_stream-original-returns": "snn_dt_stream",
    "snn_dt_stream-top10": "snn_dt_stream",
}
"""Variants that ship, and the name that the best of their seeds ships under."""
TABLES = ("classic", "mujoco")
"""Plans whose runs ship; those of the others answer a question of their own."""
KINDS = {
    "cartpole": ("dense", "snn_dt", "snn_dt_stream"),
    **dict.fromkeys(("mountaincar", "acrobot", "pendulum", "hopper"), ("snn_dt", "snn_dt_stream")),
}
"""Of these, what the repository holds: one of each kind for each environment whose data it holds."""


@dataclass(frozen=True)
class Arguments:
    """Make the results table again, or a part of it. The same command goes on where it stopped."""

    plan: str = "classic"
    """A file of configs/reproduce/: classic, mujoco, d4rl, long, dropout, budget, stream."""
    only: tuple[str, ...] = ()
    """Datasets to run, by the beginning of their config's name: cartpole, hopper-medium; none runs all."""
    variants: tuple[str, ...] = ()
    """Variants to run, by name: dense, snn_dt-full; none runs all. Names of 0.1.0 are known."""
    seeds: int = 0
    """How many of the plan's seeds to run; 0 runs all."""
    jobs: int = 0
    """Runs side by side, one thread each; 0 takes all cores."""
    again: bool = False
    """Make the runs in runs/again/, whether or not they are recorded, and compare with the records."""
    allow_dirty: bool = False
    """Make records although files have changes that are not committed; the records and their rows bear a mark."""
    table_only: bool = False
    """Only write the table and the figures from the records that exist."""
    pretrained: bool = False
    """Copy the best last checkpoints to results/pretrained/ and evaluate them on fresh episodes; with --again all of
    the plan, to runs/again/results/pretrained/."""
    run_root: Path = Path("runs/reproduce")
    """Folder of the run folders."""
    results: Path = Path("results")
    """Folder of records, table and figures."""


def main(arguments: list[str]) -> int:
    """Run the script; 0 done, 2 the user's mistake, 128 + n after signal n.

    Raises:
        TrainingError: some runs failed; the table has the others.
    """
    asked = parse(Arguments, arguments, "reproduce.py", bare_flags=True)
    for name in ("seeds", "jobs"):
        if (number := getattr(asked, name)) < 0:
            raise ConfigError(f"reproduce.py: expected --{name} of at least 0, which takes all, found {number}")
    asked = replace(asked, variants=tuple(current(name, warn=True) for name in asked.variants))
    args = replace(asked, run_root=AGAIN, results=AGAIN / "results") if asked.again else asked
    trials = chosen(args)
    if args.again and not args.table_only:
        clear(trials, args)
    signum, failed = None, []
    if not args.table_only:
        missing = [trial for trial in trials if not recorded(trial, args)]
        if len(missing) < len(trials):
            print(f"{len(trials) - len(missing)} of {len(trials)} runs are recorded in {args.results / 'runs'}")
        if not missing and not args.again:
            print("nothing to run; to make recorded runs once more: --again")
        if missing and not (args.again or args.allow_dirty):
            refuse_dirty()
        signum, failed = run(missing, args)
    if signum is None or any((args.results / "runs").glob("*/*.json")):
        table(args.results)
    if args.again:
        print("\n".join(comparison(trial, asked, args) for trial in trials))
    if args.pretrained:
        ship(trials, args)
    if signum is not None:
        print("the same command goes on")
        return 128 + signum
    if failed:
        raise TrainingError(
            f"expected all runs to finish, found {len(failed)} failed, the first {failed[0].trial.name}: "
            f"{failed[0].error}; mend what it says and run the same command again"
        )
    return 0


def refuse_dirty() -> None:
    """Raise a `ConfigError` if what makes the next records is in no commit."""
    commit = provenance()["commit"]
    if uncommitted({"commit": commit}):
        raise ConfigError(
            f"reproduce.py: expected a tree whose changes are committed, found commit {commit}: its records "
            "could not be made again; commit first, or --allow-dirty, which marks them"
        )


def plans() -> list[str]:
    """Return the names of the plans."""
    found = {path.stem for path in PLANS.glob("*.yaml")} - {"published"}
    known = [name for name in ("classic", "mujoco", "d4rl") if name in found]
    return known + sorted(found - {*known})


def chosen(args: Arguments) -> list[Trial]:
    """Return the trials of the plan that were asked for, all of a seed before the next seed."""
    path = PLANS / f"{args.plan}.yaml"
    if args.plan not in plans():
        raise ConfigError(f"reproduce.py: expected --plan to be one of {', '.join(plans())}, found {args.plan!r}")
    sweep, trials = read_sweep(path)
    seeds = sweep.seeds[: args.seeds or None]
    unknown = [name for name in args.only if not any(trial.name.startswith(name) for trial in trials)]
    unknown += [name for name in args.variants if all(name != trial.variant for trial in trials)]
    if unknown:
        tasks, variants = (", ".join(dict.fromkeys(names)) for names in zip(*orders()[args.plan], strict=True))
        raise ConfigError(
            f"reproduce.py: expected datasets ({tasks}) and variants ({variants}) of {path}, found {unknown[0]!r}"
        )
    return [
        trial
        for trial in trials
        if trial.config.train.seed in seeds
        and (not args.only or trial.name.startswith(args.only))
        and (not args.variants or trial.variant in args.variants)
    ]


def folder(trial: Trial, args: Arguments) -> Path:
    """Return the run folder of a trial."""
    return (args.run_root / args.plan / trial.name).resolve()


def record(trial: Trial, args: Arguments) -> Path:
    """Return the file of a trial's record."""
    return args.results / "runs" / args.plan / f"{trial.name}.json"


def recorded(trial: Trial, args: Arguments) -> bool:
    """Tell whether the results hold the run; a `ConfigError` if what they hold is another or damaged."""
    if not record(trial, args).exists():
        return False
    found = read_record(record(trial, args))
    stored = found["config"]  # what 0.1.0 wrote of a norm that only DSFormer has; its records bear a mark
    stored = stored | {"model": stored["model"] | {"norm_transition": trial.config.model.norm_transition}}
    if other := difference(trial.config, stored):
        raise ConfigError(
            f"{record(trial, args)}: expected a run of the plan's configuration, found another: {other}; delete it"
        )
    return True


def clear(trials: list[Trial], args: Arguments) -> None:
    """Delete what was made again before, but for what an `--again` that was stopped has left at this commit."""
    commit = provenance()["commit"]

    def begun(trial: Trial) -> bool:
        at = folder(trial, args)
        asked, made = read(at / "trial.json"), read(at / "checkpoints" / "last" / "provenance.json")
        return bool(asked and made) and made["commit"] == commit and not difference(trial.config, asked["config"])

    all_made = all(begun(trial) and read(folder(trial, args) / "result.json") for trial in trials)
    for trial in trials:
        if all_made or not begun(trial):
            shutil.rmtree(folder(trial, args), ignore_errors=True)
            record(trial, args).unlink(missing_ok=True)


def run(trials: list[Trial], args: Arguments) -> tuple[int | None, list[TrialStatus]]:
    """Train and evaluate what is not finished; returns the signal that stopped it, and what failed."""

    def keep() -> None:
        for trial in trials:
            if result := read(folder(trial, args) / "result.json"):
                write_record(result, record(trial, args))

    if not trials:
        return None, []
    for trial in trials:
        prepare(folder(trial, args), trial)
    statuses = [TrialStatus(trial, folder(trial, args)) for trial in trials]
    view = View(statuses)
    view.say(f"{args.plan}: {len(statuses)} runs in {args.run_root / args.plan} ({view.counts()})")
    keep()
    if all(status.state == "done" for status in statuses):
        return None, []
    backend = LocalProcesses(args.jobs or available_cores(), threads=1)
    try:
        with view:
            signum = run_sweep(statuses, backend, retries=2, view=view, summarize=keep)
    finally:
        backend.close()
    return signum, [status for status in statuses if status.state == "failed"]


def table(results: Path) -> None:
    """Write the table of all plans."""
    rows = orders()
    write_table(results, rows, strict.read_yaml(PLANS / "published.yaml"))
    if results == Arguments.results:
        write_short_tables(Path("README.md"), results, rows)
    print(f"table: {results / 'README.md'}, {results / 'runs.csv'}")


def orders() -> dict[str, list[tuple[str, str]]]:
    """Return the (task, variant) of each plan's rows, in their order."""
    sweeps = {plan: read_sweep(PLANS / f"{plan}.yaml")[1] for plan in plans()}
    return {plan: [(task(trial), trial.variant) for trial in trials] for plan, trials in sweeps.items()}


def task(trial: Trial) -> str:
    """Return the name of the trial's config: hopper-medium."""
    return trial.name.removesuffix(f"-{trial.variant}-seed{trial.config.train.seed}")


def comparison(trial: Trial, before: Arguments, now: Arguments) -> str:
    """Say in a line how a run's last return compares with the recorded one."""
    rows = [(read(record(trial, args)).get("evaluation") or [None])[0] for args in (before, now)]
    if not rows[0] or not rows[1]:
        return f"{trial.name}: {'not recorded' if not rows[0] else 'not made again'}"
    if rows[0]["returns"] == rows[1]["returns"]:
        verdict = f"the same in all {rows[0]['episodes']} episodes"
    else:
        (low, high), (other_low, other_high) = (row["return_interval"] for row in rows)
        verdict = (
            "within noise (the intervals overlap)" if max(low, other_low) <= min(high, other_high) else "different"
        )
    texts = [
        f"{row['return_mean']:.1f} ({row['return_interval'][0]:.1f} to {row['return_interval'][1]:.1f})" for row in rows
    ]
    return f"{trial.name}: {texts[0]} recorded, {texts[1]} again: {verdict}"


def shipped_name(trial: Trial) -> str | None:
    """Return the name under which a trial would ship: hopper-dense; None if it would not."""
    if trial.variant not in SHIPPED or task(trial) == "hopper-medium":  # Hopper's are of `mixed`
        return None
    return f"{task(trial).removesuffix('-medium')}-{SHIPPED[trial.variant]}"


def best_runs(args: Arguments) -> dict[str, tuple[Trial, dict[str, Any]]]:
    """Return, by the names that ship, the run of the best last return among all that are recorded, and its record."""
    best: dict[str, tuple[Trial, dict[str, Any]]] = {}
    for trial in read_sweep(PLANS / f"{args.plan}.yaml")[1]:
        name, result = shipped_name(trial), read(record(trial, args))
        if name and result:
            best[name] = max(best.get(name, (trial, result)), (trial, result), key=lambda pair: last_return(pair[1]))
    return best


def last_return(result: dict[str, Any]) -> float:
    """Return the mean return of a record's last checkpoint, asked for the highest target."""
    return float(result["evaluation"][0]["return_mean"])


def ship(trials: list[Trial], args: Arguments) -> None:
    """Copy the last checkpoints of the best recorded runs, of those that these trials would ship as.

    Each is then evaluated on episodes that it was not chosen by, which is the number that its page shows.
    """
    asked = {shipped_name(trial) for trial in trials}
    pretrained = args.results / "pretrained"
    figures = read_figures(pretrained)
    for name, (trial, result) in best_runs(args).items():
        target, checkpoint = pretrained / name, folder(trial, args) / "checkpoints" / "last"
        if name not in asked or not (args.again or ships(name)):
            continue
        if not checkpoint.is_dir():
            print(f"pretrained: {target} stays, as the best is {trial.name}, whose run is not in {args.run_root}")
        else:
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns("training_state.pt"))
            facts = read(target / "provenance.json") | {"command": result["command"]}  # which can be typed anywhere
            write_atomically(target / "provenance.json", dumps(facts, indent=2) + "\n")
            print(f"pretrained: {target} from {trial.name}")
        if target.is_dir() and (checkpoint.is_dir() or name not in figures):
            figures[name] = own_figure(target, result)
            print(f"pretrained: {name} returns {figures[name]['return_mean']:.1f} on fresh episodes")
            write_figures(pretrained, figures)
    if pretrained.is_dir():
        plans_of = [replace(args, plan=plan) for plan in TABLES]
        write_page(pretrained, {name: run for each in plans_of for name, (_, run) in best_runs(each).items()})


def ships(name: str) -> bool:
    """Tell whether a checkpoint is one of those that the repository holds."""
    return name.partition("-")[2] in KINDS.get(name.partition("-")[0], ())


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(handle_errors(main, sys.argv[1:]))
