"""Rollout rows of the benchmark: evaluating 100 CartPole episodes, side by side against one at a time.

    python scripts/bench/rollout.py [--quick] [--device cuda]

The policy is the pretrained one of results/pretrained/cartpole-snn_dt, asked for 500. The one-at-a-time side is the
loop of the README (`act`, `step`, `observe`) over a tenth of the episodes, times ten; `--quick` takes a fifth of both.
Two threads, wall time, environments included. The second row counts operations on every step, as `snn-dt evaluate`
does, the first on every eighth. The third has the same weights with an attention span of 20 steps, and is scaled to
episodes of 500 steps.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from worker import row

CHECKPOINT = Path(__file__).parents[2] / "results" / "pretrained" / "cartpole-snn_dt"


def rows(quick: bool, device: str = "cpu", peers_python: str | None = None) -> list[dict[str, Any]]:
    """Measure and return the rows of the table."""
    import torch

    from snn_dt import evaluate, from_pretrained
    from snn_dt.device import tune_allocator

    tune_allocator()  # as `snn-dt evaluate` does
    torch.set_num_threads(2)
    policy = from_pretrained(CHECKPOINT, device)
    episodes = 20 if quick else 100
    evaluate(policy, [500.0], episodes=4, num_envs=4)  # builds kernels
    ours: dict[int, list[float]] = {8: [], 1: []}
    spanned, single, kept = with_span(policy), [], []
    evaluate(spanned, [500.0], episodes=4, num_envs=4)
    for _ in range(3):
        for every, times in ours.items():
            begin = time.perf_counter()
            evaluate(policy, [500.0], episodes=episodes, num_envs=episodes, meter_every=every)
            times.append(1000 * (time.perf_counter() - begin) * 100 / episodes)
        begin = time.perf_counter()
        found = evaluate(spanned, [500.0], episodes=episodes, num_envs=episodes, meter_every=8)
        # A step of CartPole pays 1, so returns are numbers of decisions.
        kept.append(1000 * (time.perf_counter() - begin) * 100 * 500 / sum(found[0]["returns"]))
        begin = time.perf_counter()
        _one_at_a_time(policy, episodes // 10)
        single.append(1000 * (time.perf_counter() - begin) * 100 / (episodes // 10))
    peer = "one environment, batch 1"
    return [
        row("evaluate 100 CartPole episodes, operations of every 8th step", ours[8], peer, single, least=6.0),
        row("evaluate 100 CartPole episodes, operations of every step", ours[1], peer, single, least=None),
        row("evaluate 100 CartPole episodes, kept keys and values of 20 steps", kept, peer, single, least=15.0),
    ]


def with_span(policy: Any) -> Any:
    """Return the policy with the same weights and an attention span of its context length."""
    from dataclasses import replace

    from snn_dt.evaluation.policy import Policy
    from snn_dt.models import build_model

    span = policy.model.context_length
    config = replace(policy.model.config, attention_span=span, context_length=2 * span)
    model = build_model(config, policy.model.task).to(policy.device)
    model.load_state_dict(policy.model.state_dict())
    return Policy(model, policy.spec, policy.state_mean, policy.state_std)


def _one_at_a_time(policy: Any, episodes: int) -> None:
    import gymnasium

    env = gymnasium.make(policy.spec.env_id)
    for i in range(episodes):
        observation, _ = env.reset(seed=10_000 + i)
        policy.reset(500.0)
        over = False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            policy.observe(reward)
            over = terminated or truncated
    env.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments = parser.parse_args()
    for one in rows(arguments.quick, arguments.device):
        print(json.dumps(one))
