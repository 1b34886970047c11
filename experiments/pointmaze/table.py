"""Write results/pointmaze/evaluations.json from the folder of a sweep, and print the table of success rates.

python experiments/pointmaze/table.py runs/plan
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OUT = Path(__file__).parents[2] / "results" / "pointmaze" / "evaluations.json"
KEPT = (
    *("env_id", "episodes", "seed", "success_rate", "success_interval", "return_mean", "return_interval", "returns"),
    *("episode_length_mean", "spikes_per_decision", "macs_per_decision", "acs_per_decision"),
    *("energy_pj_per_decision", "energy_vs_cached_dt", "num_envs", "decided_by"),
)


def records(root: Path) -> list[dict[str, Any]]:
    """Return one record for each finished trial."""
    found = []
    for path in sorted(root.glob("*/result.json")):
        result = json.loads(path.read_text())
        about = {key: result[key] for key in ("trial", "seed", "updates", "command", "commit", "dataset_checksum")}
        found.append(about | {key: result["evaluation"][0][key] for key in KEPT})
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown: a line for each variant, its seeds side by side."""
    lines = ["| maze | policy | success by training seed, 95 % interval | steps of an episode | µJ a decision |"]
    lines.append("|---|---|---|---:|---:|")
    names = dict.fromkeys(row["trial"].rpartition("-seed")[0] for row in rows)
    for name in sorted(names, key=lambda n: (not n.startswith("umaze"), n)):
        own = [row for row in rows if row["trial"].rpartition("-seed")[0] == name]
        rates = (
            f"{r['success_rate']:.0%} ({r['success_interval'][0]:.0%} to {r['success_interval'][1]:.0%})" for r in own
        )
        steps = sum(r["episode_length_mean"] for r in own) / len(own)
        energy = sum(r["energy_pj_per_decision"] for r in own) / len(own) / 1e6
        maze, _, variant = name.partition("-")
        lines.append(f"| {maze} | `{variant}` | {'; '.join(rates)} | {steps:.0f} | {energy:.3g} |")
    return "\n".join(lines)


if __name__ == "__main__":
    from snn_dt.io import write_atomically

    rows = records(Path(sys.argv[1]))
    OUT.parent.mkdir(exist_ok=True)
    write_atomically(OUT, json.dumps(rows) + "\n")
    print(table(rows))
