"""Pages of the folder of pretrained checkpoints: returns on fresh episodes and commands for those not included.

A checkpoint is the best of several training seeds on the episodes of the table. The table therefore overestimates it.
`evaluations.json` holds its return on reset seeds that were not used for the choice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from snn_dt.checkpoint import from_pretrained, provenance
from snn_dt.io import write_atomically
from snn_dt.jsonl import dumps
from snn_dt.experimental.results.records import UNCOMMITTED_MARK, Record, uncommitted
from snn_dt.experimental.results.table import number
from snn_dt.report.model_card import table

FRESH_SEED = 1_000_000
"""Reset seed of the first fresh episode. Evaluations during training and in the table start at 10,000."""
EPISODES = 4
"""Fresh episodes per episode of the table: 200 for a classic task and 80 for MuJoCo."""
BEGIN, END = "<!-- checkpoints: scripts/reproduce.py --pretrained -->", "<!-- end of checkpoints -->"
FIGURE_KEYS = ("env_id", "target_return", "episodes", "seed", "returns", "return_mean", "return_std", "return_interval")


def own_figure(checkpoint: Path, record: Record) -> dict[str, Any]:
    """Evaluate a checkpoint on fresh episodes at the headline target, with one CPU thread.

    Args:
        checkpoint: the checkpoint folder.
        record: record of the run that made it.
    """
    from snn_dt.device import set_threads
    from snn_dt.evaluation.rollout import evaluate

    # The headline row, by which the checkpoint was chosen.
    chosen = record["evaluation"][0]
    settings = {"episodes": EPISODES * chosen["episodes"], "num_envs": min(32, chosen["episodes"]), "meter_every": 1}
    # The result depends on the number of threads by rounding.
    set_threads(1)
    policy = from_pretrained(checkpoint, "cpu")
    [row] = evaluate(policy, chosen["target_return"], seed=FRESH_SEED, **settings)
    facts = provenance()
    return {
        **{name: row[name] for name in FIGURE_KEYS},
        **{"normalized_score": row["normalized_score"], "threads": 1, **settings},
        "chosen_by": {"trial": record["trial"], "return_mean": chosen["return_mean"], "seed": chosen["seed"]},
        **{name: facts[name] for name in ("commit", "versions", "machine")},
    }


def read_figures(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the fresh evaluations of the checkpoints in `folder` by name."""
    path = folder / "evaluations.json"
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write_figures(folder: Path, figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Write `evaluations.json` with one line per checkpoint in `folder`."""
    lines = [f"{json.dumps(name)}: {dumps(figures[name])}" for name in sorted(figures) if (folder / name).is_dir()]
    write_atomically(folder / "evaluations.json", "{\n" + ",\n".join(lines) + "\n}\n")


def write_page(folder: Path, best: Mapping[str, Record]) -> None:
    """Write the tables of `folder`'s README.md.

    Args:
        folder: the folder of checkpoints.
        best: best record by name. Records without a checkpoint are listed with their command.
    """
    readme = folder / "README.md"
    text = readme.read_text() if readme.exists() else f"# Checkpoints\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    figures = read_figures(folder)
    shipped = [_shipped(name, figure) for name, figure in figures.items()]
    absent = [_absent(name, record) for name, record in best.items() if name not in figures]
    parts = [table(("checkpoint", "target return", "return (95 %)", "episodes", "in the table", "trial"), shipped), ""]
    if absent:
        parts += ["Not included:", "", table(("checkpoint", "in the table", "commit", "command"), absent), ""]
    write_atomically(readme, f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")


def _shipped(name: str, figure: Mapping[str, Any]) -> list[str]:
    low, high = figure["return_interval"]
    mean, chosen = figure["return_mean"], figure["chosen_by"]
    cells = (f"{figure['target_return']:g}", f"{number(mean)} ({number(low)} to {number(high)})")
    return [f"`{name}`", *cells, str(figure["episodes"]), number(chosen["return_mean"]), f"`{chosen['trial']}`"]


def _absent(name: str, record: Record) -> list[str]:
    commit = str(record.get("commit") or "")[:7] + (f" {UNCOMMITTED_MARK}" if uncommitted(record) else "")
    return [f"`{name}`", number(record["evaluation"][0]["return_mean"]), commit, f"`{record['command']}`"]
