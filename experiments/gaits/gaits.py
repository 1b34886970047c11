"""Gaits in Hopper `mixed`, and the gaits of the recorded policies.

    python experiments/gaits/gaits.py

The pace of an episode or of a policy is its return over its length.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snn_dt.data import load_dataset
from snn_dt.experimental.results.records import read_record

ROOT = Path(__file__).resolve().parents[2]
PLANS = ("mujoco", "long", "dropout")


def main() -> None:
    """Run the script."""
    data = load_dataset(str(ROOT / "datasets/sb3/hopper/mixed-v0"))
    lengths, returns = np.asarray(data.episode_lengths), np.asarray(data.episode_returns)
    pace = returns / lengths
    gaits = {
        "run to the end": returns > 3000,
        "run and fall": (pace > 3.2) & (returns > 500) & (returns < 3000),
        "hop": (pace < 2.8) & (returns > 1500),
    }
    print(f"{'data':32}{'episodes':>9}{'of steps':>9}{'length':>8}{'return':>8}{'pace':>6}")
    for name, chosen in gaits.items():
        share, total = lengths[chosen].sum() / data.n_steps, returns[chosen].sum() / lengths[chosen].sum()
        means = f"{lengths[chosen].mean():8.0f}{returns[chosen].mean():8.0f}{total:6.2f}"
        print(f"{name:32}{chosen.sum():9}{share:9.1%}{means}")

    print(f"\n{'policies, target 3600':32}{'seeds':>9}{'return':>8}{'pace':>6}")
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for plan in PLANS:
        for path in sorted((ROOT / "results/runs" / plan).glob("hopper-[!m]*.json")):
            record = read_record(path)
            row = record["evaluation"][0]
            policy = row["return_mean"] / row["episode_length_mean"], row["return_mean"]
            found.setdefault((plan, record["variant"]), []).append(policy)
    for (plan, variant), policies in found.items():
        mean_pace, mean_return = np.mean(policies, axis=0)
        print(f"{plan + ' ' + variant:32}{len(policies):9}{mean_return:8.0f}{mean_pace:6.2f}")

    rest = [
        policy
        for (plan, variant), policies in found.items()
        if plan != "dropout" and variant != "bc10" and "top10" not in variant and "stream" not in variant
        for policy in policies
    ]
    paces, got = np.array(rest).T
    print(f"\n{len(rest)} with a window, all of the data, no dropout: correlation {np.corrcoef(paces, got)[0, 1]:.2f}")
    for name, chosen in {"slower than 3": paces < 3, "faster than 3.3": paces > 3.3}.items():
        print(f"{name}: {chosen.sum()}, mean return {got[chosen].mean():.0f}")


if __name__ == "__main__":
    main()
