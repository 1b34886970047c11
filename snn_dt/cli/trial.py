"""`snn-dt trial`: run or resume one trial of a sweep."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_dt.cli.arguments import parse
from snn_dt.io import write_atomically
from snn_dt.jsonl import dumps, read_rows
from snn_dt.run_folder import remove_leftovers
from snn_dt.training.sweep.folder import Attempt, read, read_config

if TYPE_CHECKING:
    from snn_dt.run import Run


@dataclass(frozen=True)
class TrialArguments:
    """Run or resume a trial of a sweep; a finished trial is left alone."""

    run_dir: Path
    """The trial's folder, made by `snn-dt sweep`."""
    trust_env_spec: bool = False
    """Trust the files: import and run the environments, wrappers and arguments that dataset and config describe."""


def trial_main(arguments: Sequence[str]) -> int:
    """Run the command and return the exit status: 0, or 128 + n after signal n. A stopped trial can be resumed."""
    args = parse(TrialArguments, arguments, "snn-dt trial")
    config = read_config(args.run_dir, args.trust_env_spec)
    if read(args.run_dir / "result.json"):
        return 0
    group = config.track.group or args.run_dir.resolve().parent.name
    config = dataclasses.replace(config, track=dataclasses.replace(config.track, group=group))
    attempt = Attempt(args.run_dir)  # ends other processes in the folder
    remove_leftovers(args.run_dir)
    attempt.watch(orphaned=lambda: os.kill(os.getpid(), signal.SIGTERM))
    from snn_dt.checkpoint import was_saved
    from snn_dt.run import Run

    run = Run(config, args.run_dir, resume=was_saved(args.run_dir), trust=args.trust_env_spec)
    signum, rows = run.train(), run.rows
    if signum is None:
        minutes = attempt.seconds / 60
        if run.evaluates and not rows:  # the process was killed between its last checkpoint and its result
            rows = run.evaluate()
        result = _result(run, rows, attempt) | {"minutes": minutes}
        if run.evaluates and (episodes := read(args.run_dir / "trial.json").get("episodes")):
            result |= _evaluations(run, episodes)
        write_atomically(args.run_dir / "result.json", dumps(result, indent=2) + "\n")
    attempt.end()
    return 0 if signum is None else 128 + signum


def _result(run: Run, rows: list[dict[str, Any]], attempt: Attempt) -> dict[str, Any]:
    """Return the record of a finished run."""
    from snn_dt.device import device_name

    trial = read(run.run_dir / "trial.json")
    evaluations = [row for row in read_rows(run.run_dir / "metrics.jsonl") if row.get("evaluation")]
    best = max(evaluations, key=lambda row: row["evaluation"][0]["return_mean"], default=None)
    facts = read(run.run_dir / "checkpoints" / "last" / "provenance.json")
    return {
        "trial": trial["name"],
        "dataset": run.trajectories.dataset_id,
        "env_id": run.policy.spec.env_id,
        "model": run.config.model.kind,
        "variant": trial.get("variant", ""),
        "seed": run.config.train.seed,
        "updates": run.state.step,
        "overrides": trial["overrides"],
        "config": trial["config"],
        "attempts": attempt.number,
        "threads": run.threads,
        "device": device_name(run.device),
        "evaluation": rows,
        "reference": run.policy.spec.reference,
        "best": best and {"step": best["step"], **best["evaluation"][0]},
        "command": trial["command"],
        **{key: facts.get(key) for key in ("commit", "versions", "machine", "dataset_checksum")},
    }


def _evaluations(run: Run, episodes: int) -> dict[str, Any]:
    """Evaluate the last checkpoint and the best one of the run with the same reset seeds."""
    from snn_dt.checkpoint import from_pretrained
    from snn_dt.evaluation.rollout import evaluate

    found: dict[str, Any] = {}
    settings = run.config.eval
    for name, key in (("last", "evaluation"), ("best", "best_evaluation")):
        policy = from_pretrained(run.run_dir / "checkpoints" / name, str(run.device), trust=run.policy.trust)
        step = policy.provenance.get("step")
        # The last checkpoint is the best one: its evaluation counts for both.
        if found and step == found["evaluation_step"]:
            return found | {key: found["evaluation"][:1], "best_step": step}
        targets = settings.target_return if name == "last" else settings.target_return[:1]
        rows = evaluate(
            policy,
            targets,
            episodes=episodes,
            seed=settings.seed,
            num_envs=settings.num_envs,
            env_id=settings.env_id,
            max_steps=settings.max_steps,
        )
        found |= {key: rows, "evaluation_step" if name == "last" else "best_step": step}
    return found
