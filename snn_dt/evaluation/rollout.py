"""Evaluate a policy on target returns, in several copies of its environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.data.checked_env import Checked
from snn_dt.energy import DecisionMeter
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.episodes import run_episodes as run_episodes
from snn_dt.evaluation.episodes import run_reference
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.policy_spec import PolicySpec
from snn_dt.evaluation.statistics import bootstrap_interval
from snn_dt.rule_config import PlasticityConfig
from snn_dt.snn.backends import backend_for

Progress = Callable[[float, int], None]


def evaluate(
    policy: Policy,
    target_returns: float | str | Sequence[float | str] | None = None,
    *,
    episodes: int = 20,
    seed: int = 10_000,
    num_envs: int = 32,
    env_id: str | None = None,
    meter_every: int = 1,
    progress: Progress | None = None,
    finished: Callable[[dict[str, Any]], None] | None = None,
    plasticity: PlasticityConfig | None = None,
    max_steps: int | None = None,
    reference: bool = False,
) -> list[dict[str, Any]]:
    """Run a policy for each target return. Episode i is reset with `seed + i` for every target.

    The episodes and their seeds depend on no other argument. On one machine the same arguments give the same decisions
    bit for bit. With other `num_envs`, `meter_every`, threads, kernels or processors decisions differ by rounding,
    because sums are computed in another order. In CartPole the error decays and returns stay the same. MuJoCo amplifies
    it: the return of one Hopper episode may change by some hundred points. The mean over many episodes stays within its
    interval.

    Args:
        policy: the policy. It decides on its own device.
        target_returns: one or several, in environment units or "most"; see `Policy.reset`. None or empty takes the
            policy's default.
        episodes: number of episodes per target. Each is run to its end.
        num_envs: number of parallel environments. It changes decisions by rounding; see above.
        env_id: another environment than the policy's own.
        meter_every: count operations, spikes and energy on every `meter_every`-th step. Counting costs as much as
            deciding. It requires the modules instead of a fast way, which changes decisions by rounding; see above.
            0 counts nothing: the counts of a row are None, its tables by module are empty.
        progress: called after every step with (episodes done, episodes in total). A running episode counts by the part
            of its largest number of steps that it has made.
        finished: called with the object of each target when it is complete. A later target may fail.
        plasticity: online plasticity. Each target starts from the trained weights, which are restored afterwards.
            Episodes then depend on earlier episodes and on `num_envs`.
        max_steps: cap on the steps of an episode; a cut episode gives a warning. None takes the environment's own
            limit. Without one the cap is ten times the longest episode of the data and at least 1,000.
        reference: run one episode after another whatever `num_envs` is, with `policy.reset`, `act` and `observe` only.
            This equals a user's loop over one environment bit for bit on this machine's CPU. Operations are counted on
            a second decision, so `meter_every` changes the counts only.

    Returns:
        One object per target, as `snn-dt evaluate --json` writes it. Counts are means over the decisions. It states how
        decisions were made: `num_envs`, `meter_every`, `threads`, `kernel` (`snn_dt.snn.backends`) and `decided_by`.
        `decided_by` is `act` with `reference` or without counting, `modules` if every step was counted, and `both`
        otherwise.

    Raises:
        EnvironmentMismatchError: the environment is missing, does not fit the policy or fails.
        ValueError: a target is not finite, or a number is below 1.
    """
    if min(episodes, num_envs) < 1:
        raise ValueError(f"expected at least 1 episode and 1 environment, found {episodes} and {num_envs}")
    if meter_every < 0:
        raise ValueError(f"meter_every: expected at least 0, found {meter_every}")
    if max_steps is not None and max_steps < 1:
        raise ValueError(f"max_steps: expected at least 1, found {max_steps}")
    several = not (target_returns is None or isinstance(target_returns, str) or np.ndim(target_returns) == 0)
    requested: list[Any] = list(target_returns) if several else [target_returns]  # type: ignore[arg-type]
    targets = [policy.spec.target(asked) for asked in requested or [None]]
    num_envs = 1 if reference else num_envs
    how = {
        "num_envs": num_envs,
        "meter_every": meter_every,
        "threads": torch.get_num_threads(),
        "kernel": backend_for(policy.device.type),
        "context_length": policy.spec.context_length,
        "decided_by": "act" if reference or not meter_every else "modules" if meter_every == 1 else "both",
    }
    rows = []
    envs = make_environments(policy, min(num_envs, episodes), env_id, max_steps)
    try:
        name = envs[0].name  # with its version, which `env_id` may lack
        for i, target in enumerate(targets):

            def report(done: float, offset: int = i * episodes) -> None:
                if progress:
                    progress(offset + done, len(targets) * episodes)

            policy.adapt(plasticity)
            run = run_reference if reference else run_episodes
            result = run(policy, envs, target, episodes, seed, report, meter_every)
            rows.append(
                {
                    **returns_row(policy.spec, name, target, result.returns, result.lengths, seed),
                    "success_rate": result.success_rate,
                    "success_interval": result.success_interval,
                    **(result.meter.summary() if meter_every else _nothing_counted(result.meter)),
                    "decisions_per_second": float(result.lengths.sum() / result.policy_seconds),
                    "max_steps": envs[0].max_steps,
                    "episodes_cut": result.cut,
                    **how,
                }
            )
            if plasticity is not None:
                rows[-1]["plasticity"] = {**asdict(plasticity), "change": policy.adapted}
            if finished is not None:
                finished(rows[-1])
    finally:
        policy.adapt(None)
        for env in envs:
            env.close()
    return rows


def returns_row(
    spec: PolicySpec, env_name: str, target: float, returns: NDArray[Any], lengths: NDArray[Any], seed: int
) -> dict[str, Any]:
    """Return the part of a row of `evaluate` about returns, from the episodes' `returns [E]` and `lengths [E]`."""
    from snn_dt.data.scores import ReferenceScores, normalized_score

    low, high = bootstrap_interval(returns, rng=np.random.default_rng(seed))
    mean = float(returns.mean())
    # Reference scores hold for the own environment only.
    known = spec.reference if env_name == spec.env_id else None
    scores = ReferenceScores(**known) if known else None
    return {
        "env_id": env_name,
        "target_return": float(target),
        "episodes": len(returns),
        "returns": returns.tolist(),
        "return_mean": mean,
        "return_std": float(returns.std()),
        "return_interval": [low, high],
        "episode_length_mean": float(lengths.mean()),
        "normalized_score": None if scores is None else float(normalized_score(mean, scores)),
        "score_reference": None if scores is None else scores.source,
        "seed": seed,
    }


def make_environments(policy: Policy, n: int, env_id: str | None = None, max_steps: int | None = None) -> list[Checked]:
    """Make `n` copies of the environment with `make_environment`. If one fails, all are closed."""
    envs: list[Checked] = []
    try:
        for i in range(n):
            envs.append(make_environment(policy, env_id, max_steps=max_steps, quiet=i > 0))
    except BaseException:
        for env in envs:
            env.close()
        raise
    return envs


def _nothing_counted(meter: DecisionMeter) -> dict[str, Any]:
    """Return the names of `meter.summary()` without counts; the size of the weights is known all the same."""
    known = ("energy_constants", "uncounted", "parameter_bytes")
    return {
        name: value if name in known else {} if isinstance(value, dict) else None
        for name, value in meter.summary().items()
    }
