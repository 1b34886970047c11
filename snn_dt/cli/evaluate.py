"""`snn-dt evaluate`: roll out a checkpoint and report its returns and costs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from snn_dt import strict
from snn_dt.cli.arguments import parse
from snn_dt.cli.evaluation_tables import evaluation_line, print_evaluation
from snn_dt.cli.progress_bar import progress_bar
from snn_dt.config import Target
from snn_dt.errors import ConfigError, SnnDtError
from snn_dt.io import writable_folder
from snn_dt.jsonl import write_json
from snn_dt.rule_config import PlasticityConfig, plasticity_checks

TARGETS = 5
"""Default number of targets."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Roll out a policy in its environment for one or more target returns."""

    checkpoint: Path | None = None
    """Checkpoint folder, or a run folder with a last checkpoint."""
    compiled: Path | None = None
    """Instead of a checkpoint: the folder of `snn-dt export --to c`, or its library. Episodes run one by one."""
    episodes: int = 20
    """Episodes per target return."""
    target_return: tuple[Target, ...] = ()
    """Target returns in environment units, or `most`, the mean of the best tenth of the data; empty takes quantiles of
    the data's returns, see targets."""
    targets: int | None = None
    """Number of quantiles of the data's returns taken as targets, the highest first; null is 5. Calibrate with 9."""
    spacing: Literal["quantiles", "even"] = "quantiles"
    """Equal steps between the targets: of probability (`quantiles`), or of return (`even`), which includes returns that
    few episodes have."""
    seed: int = 10_000
    """Reset seed of the first episode; episode i takes seed + i."""
    context_length: int | None = None
    """Steps of the context in a decision, at most those of the training; fewer cost less. Null takes the checkpoint's
    own. Not for a policy that decides from a state."""
    device: str = "auto"
    """`auto` (cuda if there is one), `cpu`, `cuda`, `cuda:N`, `mps`, `xpu`."""
    json: Path | None = None
    """Write the results to this file, one object per target return, as soon as each is known. With three targets or
    more the calibration goes to a second file, NAME.calibration.json beside NAME.json."""
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
    count: bool = True
    """Count spikes, operations and energy. `--no-count` is faster and leaves these fields null in the JSON file. It
    changes decisions as num_envs does."""
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
    if args.targets is not None and (args.targets < 1 or args.target_return):
        raise ConfigError(
            "expected --targets of at least 1 and no --target-return beside it, found "
            f"--targets {args.targets}{' and --target-return' if args.target_return else ''}; leave one out"
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
        given = "neither" if args.checkpoint is None else "both"
        raise ConfigError(f"expected --checkpoint, or --compiled for C made by snn-dt export, found {given}; give one")
    if args.checkpoint is None:
        return _evaluate_compiled(args)
    from snn_dt.checkpoint import from_pretrained
    from snn_dt.device import set_threads, tune_allocator
    from snn_dt.evaluation.calibration import calibration, data_quantiles
    from snn_dt.evaluation.rollout import evaluate
    from snn_dt.evaluation.video import check_renders, record_videos

    tune_allocator()
    set_threads(args.threads or int(args.reference))
    policy = from_pretrained(args.checkpoint, args.device, trust=args.trust_env_spec)
    if args.context_length is not None:
        policy.spec = replace(policy.spec, context_length=_context(policy.model, args.context_length))
    if args.video is not None:
        check_renders(policy, args.env_id)
    for folder in (args.json and args.json.parent, args.report, args.video):
        if folder is not None:
            writable_folder(folder)
    targets = args.target_return or _targets(policy, args.targets or TARGETS, args.spacing)
    rows: list[dict[str, Any]] = []

    def finished(row: dict[str, Any]) -> None:
        rows.append(row)
        if args.json is not None:
            write_json(rows, args.json)
        if not progress.live:
            time_left = f"; {len(rows)} of {len(targets)} targets, {progress.left()}"
            progress.print(evaluation_line(row) + (time_left if len(rows) < len(targets) else ""))

    with progress_bar("episodes", lines=True) as progress:
        evaluate(
            policy,
            targets,
            episodes=args.episodes,
            seed=args.seed,
            num_envs=args.num_envs,
            env_id=args.env_id,
            meter_every=args.meter_every if args.count else 0,
            progress=progress,
            finished=finished,
            max_steps=args.max_steps,
            plasticity=args.plasticity if args.plasticity.eta else None,
            reference=args.reference,
        )
    found = calibration(rows, data_quantiles(policy.provenance))
    print_evaluation(rows, found)
    if args.json is not None:
        print(f"results: {args.json}")
        beside = args.json.with_suffix(".calibration.json")
        if found is not None:
            write_json(asdict(found), beside)
            print(f"calibration: {beside}")
        elif beside.is_file():
            beside.unlink()  # that of an earlier evaluation
    if args.report is not None:
        try:
            _report(policy, rows, args, args.report, arguments)
        except SnnDtError:
            raise
        except Exception as error:  # the results are written: a failed report must not change the exit status
            print(f"warning: no report, found: {' '.join(repr(error).split())}", file=sys.stderr)
    if args.video is not None:
        for path in record_videos(policy, targets, args.video, args.seed, args.env_id, args.max_steps):
            print(f"video: {path}")
    return 0


def _evaluate_compiled(args: EvaluateArguments) -> int:
    """Roll out the C of a policy."""
    from snn_dt.export.compiled_policy import CompiledPolicy, evaluate_compiled

    others = (args.video, args.report, args.plasticity.eta, args.reference, args.targets, args.context_length)
    if any(others):
        raise ConfigError(
            "expected --checkpoint with --video, --report, --plasticity, --reference, --targets or --context-length, "
            "found --compiled"
        )
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
        print(f"{evaluation_line(row)}, {row['spikes_per_decision']:.0f} spikes a decision", flush=True)

    options: dict[str, Any] = {"episodes": args.episodes, "seed": args.seed, "env_id": args.env_id}
    targets = [policy.spec.target(asked) for asked in args.target_return]
    evaluate_compiled(policy, targets, max_steps=args.max_steps, finished=finished, **options)
    return 0


def _context(model: Any, steps: int) -> int:
    """Return `steps`, the length of a context.

    Raises:
        ConfigError: the model was trained with fewer steps, or decides from a state.
    """
    from snn_dt.models.interface import decides_from_state

    expected = f"1 to {model.context_length} steps of context, as in training"
    if decides_from_state(model):
        expected = "no such flag for a policy that decides from a state"
    elif 1 <= steps <= model.context_length:
        return steps
    raise ConfigError(f"--context-length: expected {expected}, found {steps}")


def _targets(policy: Any, n: int, spacing: str) -> list[float]:
    """Return the default target returns, from the returns of the policy's data.

    It is the policy's own target if the policy ignores targets or its checkpoint does not state those returns.
    """
    from snn_dt.evaluation.calibration import data_quantiles, spread_targets

    known, config = data_quantiles(policy.provenance), getattr(policy.model, "config", None)
    conditioned = getattr(config, "reads_return", True)
    if known is not None and conditioned:
        found = spread_targets(known, n, spacing == "even")
        what = "even steps" if spacing == "even" else "quantiles"
        print(f"targets: {len(found)} {what} of the data's returns, {' '.join(f'{x:g}' for x in found)}")
        return found
    why = (
        "the checkpoint does not state the returns of its data"
        if conditioned
        else "the policy ignores its target return"
    )
    print(f"targets: {policy.spec.target_return:g}, the policy's own; {why}")
    return [policy.spec.target_return]


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
