"""Evaluate a policy on target returns, in several copies of its environment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.data.checked_env import Checked, find_checked
from snn_dt.energy import DecisionMeter
from snn_dt.evaluation.environments import default_cap, make_environment
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.rollout_result import Rollout as Rollout
from snn_dt.evaluation.rollout_result import success
from snn_dt.evaluation.statistics import bootstrap_interval
from snn_dt.rule_config import PlasticityConfig
from snn_dt.snn.backends import backend_for

Progress = Callable[[float, int], None]

_log = logging.getLogger("snn_dt")


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
    from snn_dt.data.scores import ReferenceScores, normalized_score

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
        # Reference scores hold for the own environment only.
        known = policy.spec.reference if name == policy.spec.env_id else None
        scores = ReferenceScores(**known) if known else None
        for i, target in enumerate(targets):

            def report(done: float, offset: int = i * episodes) -> None:
                if progress:
                    progress(offset + done, len(targets) * episodes)

            policy.adapt(plasticity)
            run = run_reference if reference else run_episodes
            result = run(policy, envs, target, episodes, seed, report, meter_every)
            low, high = bootstrap_interval(result.returns, rng=np.random.default_rng(seed))
            mean = float(result.returns.mean())
            rows.append(
                {
                    "env_id": name,
                    "target_return": float(target),
                    "episodes": episodes,
                    "returns": [float(r) for r in result.returns],
                    "return_mean": mean,
                    "return_std": float(result.returns.std()),
                    "return_interval": [low, high],
                    "success_rate": result.success_rate,
                    "success_interval": result.success_interval,
                    "episode_length_mean": float(result.lengths.mean()),
                    "normalized_score": None if scores is None else float(normalized_score(mean, scores)),
                    "score_reference": None if scores is None else scores.source,
                    **(result.meter.summary() if meter_every else _nothing_counted(result.meter)),
                    "decisions_per_second": float(result.lengths.sum() / result.policy_seconds),
                    "seed": seed,
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


def run_episodes(
    policy: Policy,
    envs: Sequence[Any],
    target_return: float,
    episodes: int,
    seed: int,
    report: Callable[[float], None] | None = None,
    meter_every: int = 1,
    meter: DecisionMeter | None = None,
    aside: bool = False,
) -> Rollout:
    """Run episodes `seed .. seed + episodes - 1`, as many at a time as there are environments.

    An environment that finishes takes the next episode. When no episode is left, its row is removed from the batch. So
    every episode is run to its end and counted once, and short episodes do not displace long ones. An episode that does
    not end is cut at the environment's step cap, with a warning.

    Args:
        policy, envs, target_return, episodes, seed: see `evaluate`.
        report: called after every step with the number of episodes done; see `evaluate`.
        meter_every: see `evaluate`. The first step of each call is counted, unless it is 0.
        meter: the meter to add to; None makes a new one.
        aside: count on a second decision and restore the context, so counting changes no decision.
    """
    envs = [env if find_checked(env) else Checked(env, default_cap(policy)) for env in envs]
    checked = [found for env in envs if (found := find_checked(env))]
    cuts = sum(env.cuts for env in checked)
    returns, lengths = np.zeros(episodes), np.zeros(episodes, dtype=np.int64)
    successes = np.full(episodes, -1)  # -1: the environment does not tell
    n = min(len(envs), episodes)
    live = list(range(n))  # environment of each row of the batch
    episode = list(range(n))  # episode of each environment
    started, done, step, seconds = n, 0, 0, 0.0
    observations = {e: policy.flatten(envs[e].reset(seed=seed + e)[0]) for e in live}
    policy.reset(target_return, batch_size=n)
    meter = meter or DecisionMeter(policy.model)
    while live:
        batch = np.stack([observations[e] for e in live])  # [N, state_dim]
        metered = meter_every > 0 and step % meter_every == 0
        step += 1
        if metered and aside:
            _count_aside(policy, batch, meter)
            metered = False
        with _counted(policy, meter) if metered else nullcontext():
            begin, metering = time.perf_counter(), meter.seconds
            actions = policy.act(batch)
            if metered:
                meter.count(*policy.context.counted())
            # Speed is that of deciding, so the time of counting is subtracted.
            seconds += time.perf_counter() - begin - (meter.seconds - metering)
        rewards, finished, restarted = np.zeros(len(live)), [], []
        for row, e in enumerate(live):
            observation, reward, terminated, truncated, info = envs[e].step(actions[row])
            successes[episode[e]] = max(successes[episode[e]], success(info))
            rewards[row] = reward
            returns[episode[e]] += reward
            lengths[episode[e]] += 1
            if terminated or truncated:
                done += 1
                if started < episodes:
                    episode[e] = started
                    observation, _ = envs[e].reset(seed=seed + started)
                    started += 1
                    restarted.append(row)
                else:
                    finished.append(row)
            # After a reset this is the first observation of the new episode.
            observations[e] = policy.flatten(observation)
        policy.observe(rewards)
        if restarted:
            policy.restart(np.array(restarted), target_return)
        if finished:
            # Rows of the batch that go on; `live` maps them to environments.
            rows = np.setdiff1d(np.arange(len(live)), finished)
            live = [live[row] for row in rows]
            policy.keep(rows)
        if report:
            report(done + sum(int(lengths[episode[e]]) for e in live) / checked[0].max_steps)
    cut = sum(env.cuts for env in checked) - cuts
    if cut:
        _log.warning(
            "%d of %d episodes in %s were cut after %d steps, their returns go no further: expected an environment "
            "that ends them; --max-steps (train, finetune: --eval.max_steps) sets another cap",
            *(cut, episodes, checked[0].name, checked[0].max_steps),
        )
    return Rollout(returns, lengths, seconds, meter, cut, successes)


def run_reference(
    policy: Policy,
    envs: Sequence[Any],
    target_return: float,
    episodes: int,
    seed: int,
    report: Callable[[float], None],
    meter_every: int = 1,
) -> Rollout:
    """Run the same episodes one after another in the first environment, with the decisions of `policy.act` alone."""
    meter = DecisionMeter(policy.model)
    aside = not policy.adapts  # online plasticity needs the modules in any case
    parts = []
    for i in range(episodes):

        def report_on(done: float, before: int = i) -> None:
            report(before + done)

        parts.append(run_episodes(policy, envs[:1], target_return, 1, seed + i, report_on, meter_every, meter, aside))
    # Each part holds one episode: arrays [1] -> [episodes].
    returns, lengths, successes = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("returns", "lengths", "successes")
    )
    seconds, cut = sum(part.policy_seconds for part in parts), sum(part.cut for part in parts)
    return Rollout(returns, lengths, seconds, meter, cut, successes)


def _nothing_counted(meter: DecisionMeter) -> dict[str, Any]:
    """Return the names of `meter.summary()` without counts; the size of the weights is known all the same."""
    known = ("energy_constants", "uncounted", "parameter_bytes")
    return {
        name: value if name in known else {} if isinstance(value, dict) else None
        for name, value in meter.summary().items()
    }


@contextmanager
def _counted(policy: Policy, meter: DecisionMeter) -> Iterator[None]:
    """Decide with the modules and record their calls. A fast way of deciding calls no modules."""
    with policy.through_modules(), meter:
        yield


def _count_aside(policy: Policy, batch: NDArray[np.float32], meter: DecisionMeter) -> None:
    """Count a decision for `batch` and restore the context."""
    before = policy.context.state_dict()
    with _counted(policy, meter):
        policy.act(batch)
        meter.count(*policy.context.counted())
    policy.context.load_state_dict(before)
    policy.observe(np.zeros(len(batch)))  # otherwise the next `act` warns about a missing reward
