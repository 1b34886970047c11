"""Returns of a policy with its spikes, and with every weight that spikes feed set to 0.

    python experiments/silence/silence.py CHECKPOINT [CHECKPOINT ...] [--target-return R ...] [--episodes 50]

Without spikes only the analogue parts remain: embedding, return code, residual stream, norms, biases, head. A network
trained to very few spikes may compute its policy there. Prints a Markdown row for each checkpoint and target.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from snn_dt import from_pretrained
from snn_dt.evaluation.rollout import evaluate
from snn_dt.models.layers import SpikeLinear


def returns(checkpoint: str, targets: list[float] | None, episodes: int, silent: bool) -> list[dict[str, Any]]:
    """Evaluate a checkpoint; `silent` sets the weights that spikes feed to 0."""
    policy = from_pretrained(checkpoint)
    if silent:
        with torch.no_grad():
            for module in policy.model.modules():
                if isinstance(module, SpikeLinear):
                    module.weight.zero_()
    return evaluate(policy, targets, episodes=episodes)


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="folder of a checkpoint, or a run folder")
    parser.add_argument("--target-return", type=float, nargs="+", help="default: the policy's own")
    parser.add_argument("--episodes", type=int, default=50)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| checkpoint | target | spikes per decision | return | without spikes |\n|---|---|---|---|---|")
    for checkpoint in args.checkpoints:
        rows, others = (returns(checkpoint, args.target_return, args.episodes, silent) for silent in (False, True))
        for row, other in zip(rows, others, strict=True):
            spikes, means = row["spikes_per_decision"], (row["return_mean"], other["return_mean"])
            print(f"| {checkpoint} | {row['target_return']:g} | {spikes:.1f} | {means[0]:.1f} | {means[1]:.1f} |")


if __name__ == "__main__":
    main()
