"""`snn-dt evaluate`: roll out a checkpoint and report its returns and costs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.cli.arguments import parse
from snn_dt.command import plain_console
from snn_dt.errors import ConfigError, SnnDtError
from snn_dt.io import writable_folder
from snn_dt.jsonl import write_json
from snn_dt.rule_config import PlasticityConfig, plasticity_checks


@dataclass(frozen=True)
class EvaluateArguments:
    """Roll out a policy in its environment for one or more target returns."""

    checkpoint: Path | None = None
    """Checkpoint folder, or a run folder with a last checkpoint."""
    compiled: Path | None = None
    """Instead of a checkpoint: the folder of `snn-dt export --to c`, or its library. Episodes run one by one."""
    episodes: int = 20
    """Episodes per target return."""
    target_return: tuple[float, ...] = ()
    """Target returns in environment units; empty takes the policy's own."""
    seed: int = 10_000
    """Reset seed of the first episode; episode i takes seed + i."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`."""
    json: Path | None = None
    """Write the results to this file, one object per target return."""
    report: Path | None = None
    """Write figures and a self-contained HTML page to this folder."""
    video: Path | None = None
    """Write one MP4 per target return to this folder."""
    env_id: str | None = None
    """Another environment than the policy's own; `module:Env-v0` imports the module first."""
    trust_env_spec: bool = False
    """Trust the checkpoint: import and run the environment, wrappers and arguments that it describes."""
    max_steps: int | None = None
    """Cut an episode after this many steps. Null takes the environment's own limit; without one, ten times the longest
    episode of the data, at least 1,000."""
    num_envs: int = 32
    """Environments stepped in parallel, for speed. Decisions change by rounding, which MuJoCo amplifies: single
    episodes differ; their mean stays within its interval."""
    meter_every: int = 1
    """Count operations and spikes on every `meter_every`-th step, for speed. Changes decisions as num_envs does."""
    reference: bool = False
    """Run one episode after another with reset, act and observe only: bit for bit the result of your own loop on this
    machine. Slow. Uses one environment, whatever num_envs says, and one thread by default."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores of this process (one with reference)."""
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    """Learn while acting, if eta is above 0; the checkpoint does not change."""


def evaluate_main(arguments: Sequence[str]) -> int:
    """Run the command.

    The results of a target return are written to `--json` before they are printed and before the next one starts.
    """
    args = parse(EvaluateArguments, arguments, "snn-dt evaluate")
    if (
        min(args.episodes, args.num_envs, args.meter_every) < 1
        or args.episodes >= 2**31
        or args.threads < 0
        or not 0 <= args.seed < 2**32
    ):
        raise ConfigError(
            "expected --episodes in [1, 2^31), --meter-every and --num-envs of at least 1, --threads of at least 0, "
            f"--seed in [0, 2^32), found {args.episodes}, {args.meter_every}, {args.num_envs}, {args.threads}, "
            f"{args.seed}"
        )
    if args.env_id == "":
        raise ConfigError("expected an environment after --env-id, found an empty name; name one or leave it out")
    strict.check_all(plasticity_checks("plasticity", args.plasticity))
    if args.max_steps is not None and args.max_steps < 1:
        raise ConfigError(f"expected --max-steps of at least 1, found {args.max_steps}")
    if args.json is not None and args.json.is_dir():
        raise ConfigError(f"expected a file for --json, found the folder {args.json}; name a file in it")
    if args.json is not None and args.json.exists() and not args.json.is_file():
        raise ConfigError(f"expected a file for --json, found a device or pipe at {args.json}; name another file")
    if (args.checkpoint is None) == (args.compiled is None):
        found = "neither" if args.checkpoint is None else "both"
        raise ConfigError(f"expected --checkpoint, or --compiled for C made by snn-dt export, found {found}; give one")
    if args.checkpoint is None:
        return _evaluate_compiled(args)
    from snn_dt.checkpoint import from_pretrained
    from snn_dt.device import set_threads, tune_allocator
    from snn_dt.evaluation.rollout import evaluate
    from snn_dt.evaluation.video import check_renders, record_videos

    tune_allocator()
    set_threads(args.threads or int(args.reference))
    policy = from_pretrained(args.checkpoint, args.device, trust=args.trust_env_spec)
    if args.video is not None:
        check_renders(policy, args.env_id)
    for folder in (args.json and args.json.parent, args.report, args.video):
        if folder is not None:
            writable_folder(folder)
    rows: list[dict[str, Any]] = []

    def finished(row: dict[str, Any]) -> None:
        rows.append(row)
        if args.json is not None:
            write_json(rows, args.json)
        if not sys.stdout.isatty():
            print(_line(row), flush=True)

    with progress_bar("episodes") as progress:
        evaluate(
            policy,
            args.target_return,
            episodes=args.episodes,
            seed=args.seed,
            num_envs=args.num_envs,
            env_id=args.env_id,
            meter_every=args.meter_every,
            progress=progress,
            finished=finished,
            max_steps=args.max_steps,
            plasticity=args.plasticity if args.plasticity.eta else None,
            reference=args.reference,
        )
    print_evaluation(rows)
    if args.json is not None:
        print(f"results: {args.json}")
    if args.report is not None:
        try:
            _report(policy, rows, args, args.report, arguments)
        except SnnDtError:
            raise
        except Exception as error:  # the results are written: a failed report must not change the exit status
            print(f"warning: no report, found: {' '.join(repr(error).split())}", file=sys.stderr)
    if args.video is not None:
        for path in record_videos(policy, args.target_return, args.video, args.seed, args.env_id, args.max_steps):
            print(f"video: {path}")
    return 0


def _evaluate_compiled(args: EvaluateArguments) -> int:
    """Roll out the C of a policy."""
    from snn_dt.export.compiled import CompiledPolicy, evaluate_compiled

    if args.video or args.report or args.plasticity.eta or args.reference:
        raise ConfigError("expected --checkpoint with --video, --report, --plasticity or --reference, found --compiled")
    assert args.compiled is not None
    policy = CompiledPolicy(args.compiled)
    policy.trust = args.trust_env_spec
    if args.json is not None:
        writable_folder(args.json.parent)
    rows: list[dict[str, Any]] = []

    def finished(row: dict[str, Any]) -> None:
        rows.append(row)
        if args.json is not None:
            write_json(rows, args.json)
        print(f"{_line(row)}, {row['spikes_per_decision']:.0f} spikes a decision", flush=True)

    options: dict[str, Any] = {"episodes": args.episodes, "seed": args.seed, "env_id": args.env_id}
    evaluate_compiled(policy, args.target_return, max_steps=args.max_steps, finished=finished, **options)
    return 0


def _line(row: dict[str, Any]) -> str:
    """Return one log line with the results of a target return."""
    low, high = row["return_interval"]
    return (
        f"target {row['target_return']:g}: return {row['return_mean']:.5g} [{low:.5g}, {high:.5g}] over "
        f"{row['episodes']} episodes"
    )


def print_evaluation(rows: list[dict[str, Any]]) -> None:
    """Print the rows of an evaluation as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    first = rows[0]
    title = f"{first['env_id']}, {first['episodes']} episodes per target, reset seeds from {first['seed']}"
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    counts = ("spikes", "rate", "M MACs", "M ACs", "µJ", "vs dense", "vs DT")
    for name in ("target", "return", "95 % interval", "score", *counts, "dec./s"):
        table.add_column(name, justify="right")
    for row in rows:
        score = row["normalized_score"]
        low, high = row["return_interval"]
        table.add_row(
            f"{row['target_return']:g}",
            f"{row['return_mean']:.1f} ± {row['return_std']:.1f}",
            f"{low:.1f} to {high:.1f}",
            "-" if score is None else f"{score:.1f}",
            f"{row['spikes_per_decision']:.0f}",
            f"{row['firing_rate']:.3f}",
            *(f"{row[name] / 1e6:.3f}" for name in ("macs_per_decision", "acs_per_decision", "energy_pj_per_decision")),
            *(_percent(row[name]) for name in ("energy_vs_same_tokens", "energy_vs_dt")),
            f"{row['decisions_per_second']:.0f}",
        )
    shown = plain_console(soft_wrap=False, width=None if sys.stdout.isatty() else 120)
    shown.print(table)
    source = first["score_reference"]
    shown.print(f"score: 0 and 100 as in {source}" if source else "score: none, no reference returns are known")
    shown.print(
        "vs dense, vs DT: energy divided by that of a dense model on the same tokens, and of a Decision Transformer on "
        "three tokens per step; both of the same width and depth"
    )
    for row in rows:
        for layer, flag in row["layer_flags"].items():
            rate = row["firing_rates"][layer]
            shown.print(f"target {row['target_return']:g}: layer {layer} is {flag} (firing rate {rate:.2g})")
        if learned := row.get("plasticity"):
            shown.print(f"target {row['target_return']:g}: the head changed by {learned['change']:.2g} of its norm")
    shown.print(_parts_table(first))


def _parts_table(row: dict[str, Any]) -> Any:
    """Return a table of the energy of one decision by part of the model."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from snn_dt.energy import by_part

    title = (
        f"one decision at target {row['target_return']:g}, {row['context_steps']:.1f} steps of context\n"
        f"{row['parameter_bytes'] / 1e3:,.0f} kB of weights, {row['state_bytes'] / 1e3:,.0f} kB of state"
    )
    traffic, price = row["memory_bytes_per_decision"] / 1e3, row["memory_pj_per_decision"] / 1e6
    caption = f"memory traffic, not in the energy: {traffic:,.0f} kB, {price:,.2f} µJ"
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD)
    for name in ("part", "MACs", "ACs", "neuron updates", "spikes", "µJ", "share"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for part, costs in by_part(row["by_module"]).items():
        if costs["energy_pj"]:
            counts = (costs[name] for name in ("macs", "acs", "neuron_updates", "spikes"))
            energy, share = costs["energy_pj"] / 1e6, costs["energy_pj"] / row["energy_pj_per_decision"]
            table.add_row(part, *(f"{count:,.0f}" for count in counts), f"{energy:,.3f}", _percent(share))
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def progress_bar(unit: str) -> Any:
    """Return a context manager that yields `callback(done, total)`. It draws a bar on a terminal only."""
    from contextlib import contextmanager

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Any:
        columns = (TextColumn(unit, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, transient=True, disable=not sys.stdout.isatty()) as progress:
            task = progress.add_task(unit, total=None)
            yield lambda done, total: progress.update(task, completed=done, total=total)

    return bar()


def _report(
    policy: Any, rows: list[dict[str, Any]], args: EvaluateArguments, folder: Path, command: Sequence[str]
) -> None:
    from snn_dt.evaluation.raster import record_gates, record_raster
    from snn_dt.report.run_report import write_run_report

    target = rows[0]["target_return"]
    raster = record_raster(policy, target, seed=args.seed, env_id=args.env_id)
    gates = record_gates(policy, target, seed=args.seed, env_id=args.env_id)
    assert args.checkpoint is not None
    page = write_run_report(
        args.checkpoint,
        rows,
        folder,
        raster=raster,
        gates=gates,
        data_returns=policy.provenance.get("dataset_return_quantiles"),
        say=lambda text: print(text, file=sys.stderr),
        command=shlex.join(["snn-dt", "evaluate", *command]),
    )
    print(f"report: {page}")
