"""Run episodes of a policy: their returns, lengths and successes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.data.checked_env import Checked, find_checked
from snn_dt.energy import DecisionMeter
from snn_dt.evaluation.environments import default_cap
from snn_dt.evaluation.policy import Policy
from snn_dt.evaluation.statistics import wilson_interval

_log = logging.getLogger("snn_dt")


@dataclass
class Rollout:
    """Episodes at one target return."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    policy_seconds: float
    """Time in `policy.act` without metering."""
    meter: DecisionMeter = field(repr=False)
    cut: int = 0
    """Number of episodes that reached the step cap; see `evaluate`."""
    successes: NDArray[np.int64] | None = None
    """1 for each episode in which the environment reported success at some step, else 0; -1 if it reports none."""

    @property
    def success_rate(self) -> float | None:
        """The share of successful episodes, in [0, 1]; None if the environment does not report success."""
        return None if self.successes is None or self.successes.min() < 0 else float(self.successes.mean())

    @property
    def success_interval(self) -> list[float] | None:
        """The 95 % interval of the success rate; None if the environment does not report success."""
        if self.successes is None or self.success_rate is None:
            return None
        return list(wilson_interval(int(self.successes.sum()), len(self.successes)))


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
        policy, envs, target_return, episodes, seed: see `snn_dt.evaluate`.
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


def success(info: Any) -> int:
    """Return 1 or 0 for the success that the environment reports in `info` (`success`, `is_success`), -1 for none."""
    found = info.get("success", info.get("is_success")) if isinstance(info, Mapping) else None
    return -1 if found is None or np.size(found) != 1 else int(np.ravel(found)[0] > 0)
