"""Table of a sweep: one row per trial in `summary.csv` and `summary.json`. It is rewritten when a trial ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_dt.io import write_atomically
from snn_dt.jsonl import dumps
from snn_dt.training.sweep.folder import read
from snn_dt.training.sweep.scheduler import TrialStatus

EVALUATION = (
    *(
        "target_return",
        "return_mean",
        "return_std",
        "success_rate",
        "normalized_score",
        "firing_rate",
        "spikes_per_decision",
    ),
    *("macs_per_decision", "acs_per_decision", "energy_pj_per_decision", "decisions_per_second"),
    *("num_envs", "meter_every", "decided_by"),
)


def write_summary(root: Path, statuses: Sequence[TrialStatus]) -> None:
    """Write both files to the folder of the sweep, each atomically.

    Raises:
        OSError: the folder cannot be written.
    """
    rows = [summary_row(status) for status in statuses]
    # Rows differ in their overrides, so the columns are the union of all keys.
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(root / "summary.json", dumps(rows, indent=2) + "\n")
    write_atomically(root / "summary.csv", table.getvalue())


def summary_row(status: TrialStatus) -> dict[str, Any]:
    """Return the row of a trial: state, overrides and results at the first target return."""
    result, config = read(status.folder / "result.json"), status.trial.config
    last = (result.get("evaluation") or [{}])[0]
    return {
        "trial": status.trial.name,
        "state": status.state,
        "dataset": config.data.dataset,
        "model": config.model.kind,
        "seed": config.train.seed,
        **{key: value for key, value in status.trial.overrides.items() if key != "train.seed"},
        "step": status.progress.step,
        "steps": status.steps,
        **{key: last.get(key) for key in EVALUATION},
        "best_return_mean": (result.get("best") or {}).get("return_mean"),
        "minutes": round(result.get("minutes", status.progress.minutes()), 3),
        "attempts": result.get("attempts"),
        "commit": result.get("commit"),
        "error": "" if status.state == "done" else status.error,
        "run_dir": str(status.folder),
    }
