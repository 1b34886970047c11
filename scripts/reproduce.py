"""The results table, made again: trains what is missing of a plan, evaluates it, writes the table.

    python scripts/reproduce.py [--plan classic|mujoco|d4rl] [--only cartpole ...] [--variants dense ...] [--seeds N]
                                [--jobs N] [--table-only] [--pretrained]

A plan is a sweep file in configs/reproduce/. Runs live in runs/reproduce/<plan>/ and go on where they stopped. Each
finished run becomes results/runs/<plan>/<run>.json, and is not run again while that is there (name another --results to
repeat it). From these come results/runs.csv, the table in results/README.md and the figures. `--pretrained` copies the
best seed's last checkpoints of dense and snn_dt to results/pretrained/.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.cli.arguments import parse
from snn_dt.cli.main import guarded
from snn_dt.errors import ConfigError, TrainingError
from snn_dt.report.style import png
from snn_dt.report.suite import page, to_csv
from snn_dt.report.suite_figures import returns_against_energy, returns_against_target
from snn_dt.sweep.backends import LocalProcesses, available_cores
from snn_dt.sweep.folder import difference, prepare, read
from snn_dt.sweep.grid import Trial, read_sweep
from snn_dt.sweep.scheduler import TrialStatus, run_sweep
from snn_dt.sweep.view import View
from snn_dt.training.jsonl import dumps, write_atomically

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- table: scripts/reproduce.py -->", "<!-- end of table -->"
TITLES = {"classic": "Classic control", "mujoco": "MuJoCo", "d4rl": "D4RL"}
SHIPPED = {"dense": "dense", "snn_dt-full": "snn_dt"}
"""Variants whose best seed ships, and the name it ships under."""


@dataclass(frozen=True)
class Arguments:
    """Make the results table again, or a part of it. The same command goes on where it stopped."""

    plan: str = "classic"
    """A file of configs/reproduce/: classic, mujoco, d4rl."""
    only: tuple[str, ...] = ()
    """Datasets to run, by the beginning of their config's name: cartpole, hopper-medium; none runs all."""
    variants: tuple[str, ...] = ()
    """Variants to run, by name: dense, snn_dt-full; none runs all."""
    seeds: int = 0
    """How many of the plan's seeds to run; 0 runs all."""
    jobs: int = 0
    """Runs side by side, one thread each; 0 takes all cores."""
    table_only: bool = False
    """Only write the table and the figures from the records that exist."""
    pretrained: bool = False
    """Copy the best seeds' checkpoints to results/pretrained/."""
    run_root: Path = Path("runs/reproduce")
    """Folder of the run folders."""
    results: Path = Path("results")
    """Folder of records, table and figures."""


def main(arguments: list[str]) -> int:
    """Run the script; 0 done, 2 the user's mistake, 128 + n after signal n.

    Raises:
        TrainingError: some runs failed; the table has the others.
    """
    args = parse(Arguments, arguments, "reproduce.py", bare_flags=True)
    trials = chosen(args)
    signum, failed = None, []
    if not args.table_only:
        missing = [trial for trial in trials if not recorded(trial, args)]
        if len(missing) < len(trials):
            print(
                f"{len(trials) - len(missing)} of {len(trials)} runs are in {args.results / 'runs'} and are left alone"
            )
        signum, failed = run(missing, args)
    if signum is None or any((args.results / "runs").glob("*/*.json")):
        write_table(args.results)
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


def chosen(args: Arguments) -> list[Trial]:
    """Return the trials of the plan that were asked for, all of a seed before the next seed."""
    path = Path("configs/reproduce") / f"{args.plan}.yaml"
    if not path.is_file():
        plans = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml") if p.stem != "published"))
        raise ConfigError(f"reproduce.py: expected --plan to be one of {plans}, found {args.plan!r}")
    sweep, trials = read_sweep(path)
    seeds = sweep.seeds[: args.seeds or None]
    found = [
        trial
        for trial in trials
        if trial.config.train.seed in seeds
        and (not args.only or trial.name.startswith(args.only))
        and (not args.variants or trial.variant in args.variants)
    ]
    if not found:
        names = ", ".join(dict.fromkeys(trial.variant for trial in trials))
        raise ConfigError(f"reproduce.py: expected runs of {path}, found none for these flags; variants: {names}")
    return found


def folder(trial: Trial, args: Arguments) -> Path:
    """Return the run folder of a trial."""
    return (args.run_root / args.plan / trial.name).resolve()


def recorded(trial: Trial, args: Arguments) -> bool:
    """Tell whether the results hold the run; a `ConfigError` if they hold one of another configuration."""
    path = args.results / "runs" / args.plan / f"{trial.name}.json"
    if not (found := read(path)):
        return False
    if other := difference(trial.config, found["config"]):
        raise ConfigError(
            f"{path}: expected a run of the plan's configuration, found another: {other}; delete the file"
        )
    return True


def record(trial: Trial, args: Arguments) -> None:
    """Write the record of a run that is finished."""
    if result := read(folder(trial, args) / "result.json"):
        target = args.results / "runs" / args.plan / f"{trial.name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{json.dumps(key)}: {dumps(value)}" for key, value in result.items()]
        write_atomically(target, "{\n" + ",\n".join(lines) + "\n}\n")


def run(trials: list[Trial], args: Arguments) -> tuple[int | None, list[TrialStatus]]:
    """Train and evaluate what is not finished; returns the signal that stopped it, and what failed."""

    def keep() -> None:
        for trial in trials:
            record(trial, args)

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


def write_table(results: Path) -> None:
    """Write runs.csv, the table between its marks in README.md, and the figures."""
    plans = {plan: stored(results / "runs" / plan) for plan in TITLES}
    records = [record for own in plans.values() for record in own]
    if not records:
        raise ConfigError(f"reproduce.py: expected records in {results / 'runs'}, found none; run without --table-only")
    published = strict.read_yaml(Path("configs/reproduce/published.yaml"))
    figures = results / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    parts = []
    for plan, own in plans.items():
        if own:
            parts.append(page(TITLES[plan], own, published, plan))
            parts += [f"![{alt}]({path.relative_to(results)})\n" for alt, path in draw(plan, own, figures)]
    readme = results / "README.md"
    text = readme.read_text() if readme.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ConfigError(f"{readme}: expected the marks {BEGIN} and {END} around the table, found no such pair")
    write_atomically(results / "runs.csv", to_csv(records))
    write_atomically(readme, f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")
    print(f"{len(records)} runs in {results / 'runs.csv'}; table in {readme}")


def draw(plan: str, records: list[dict[str, Any]], folder: Path) -> list[tuple[str, Path]]:
    """Write the figures of a plan; returns what each shows and where it is."""
    shown = {"return-vs-energy": ("Return over energy of a decision", returns_against_energy)}
    if any(len(record["evaluation"]) > 1 for record in records):
        shown["return-vs-target"] = ("Return over return asked for", returns_against_target)
    files = []
    for name, (alt, figure) in shown.items():
        path = folder / f"{plan}-{name}.png"
        write_atomically(path, png(figure(records), dpi=110))
        files.append((f"{alt}, {TITLES[plan]}", path))
    return files


def stored(folder: Path) -> list[dict[str, Any]]:
    """Return a plan's records in the order of its file: by dataset, variant, seed."""
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not records:
        return []
    trials = read_sweep(Path("configs/reproduce") / f"{folder.name}.yaml")[1]
    datasets = list(dict.fromkeys(trial.name.split(f"-{trial.variant}-")[0] for trial in trials))
    variants = list(dict.fromkeys(trial.variant for trial in trials))

    def key(record: dict[str, Any]) -> tuple[Any, ...]:
        dataset, variant = record["trial"].split(f"-{record['variant']}-")[0], record["variant"]
        return _place(datasets, dataset), _place(variants, variant), record["seed"]

    return sorted(records, key=key)


def _place(known: list[str], name: str) -> tuple[int, str]:
    return known.index(name) if name in known else len(known), name


def ship(trials: list[Trial], args: Arguments) -> None:
    """Copy, of each dataset and shipped variant, the last checkpoint of the seed with the best return."""
    best: dict[str, tuple[float, Trial]] = {}
    for trial in trials:
        result = read(folder(trial, args) / "result.json")
        if not result or trial.variant not in SHIPPED:
            continue
        task = trial.name.removesuffix(f"-{trial.variant}-seed{trial.config.train.seed}")
        name = f"{task.removesuffix('-medium') if task != 'hopper-medium' else task}-{SHIPPED[trial.variant]}"
        found = (result["evaluation"][0]["return_mean"], trial)
        best[name] = max(best.get(name, found), found, key=lambda pair: pair[0])
    for name, (_, trial) in best.items():
        target = args.results / "pretrained" / name
        shutil.rmtree(target, ignore_errors=True)
        checkpoint = folder(trial, args) / "checkpoints" / "last"
        shutil.copytree(checkpoint, target, ignore=shutil.ignore_patterns("training_state.pt"))
        facts = read(target / "provenance.json") | {"command": trial.command}  # which anyone can type, anywhere
        write_atomically(target / "provenance.json", dumps(facts, indent=2) + "\n")
        print(f"pretrained: {target} from {trial.name}")


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(guarded(main, sys.argv[1:]))
