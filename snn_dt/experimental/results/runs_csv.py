"""`runs.csv` with one row per run."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snn_dt.experimental.results.records import Record, marks

COLUMNS = (
    "dataset",
    "env_id",
    "model",
    "variant",
    "seed",
    "updates",
    "target_return",
    "last_return_mean",
    "best_return_mean",
    "normalized_score",
    "spikes_per_decision",
    "macs",
    "acs",
    "energy_pj",
    "energy_vs_same_tokens",
    "energy_vs_dt",
    "energy_vs_cached_dt",
    "total_vs_cached_dt",
    "decisions_per_second",
    "minutes",
    "num_envs",
    "meter_every",
    "decided_by",
    "commit",
    "command",
    "marks",
)


def csv_row(record: Record, root: Path = Path()) -> dict[str, Any]:
    """Return the row of a run. Values that were not measured are empty.

    Args:
        record: record of the run. Old records do not state how decisions were made. They used `num_envs` of the config
            and counted every step.
        root: folder in which commands are run.
    """
    last, best = record["evaluation"][0], record["best_evaluation"][0]
    how = {
        "num_envs": last.get("num_envs", record["config"].get("eval", {}).get("num_envs")),
        "meter_every": last.get("meter_every", 1),
        "decided_by": last.get("decided_by", "modules"),
    }
    measured = {
        "last_return_mean": (last["return_mean"], 3),
        "best_return_mean": (best["return_mean"], 3),
        "normalized_score": (last["normalized_score"], 3),
        "spikes_per_decision": (last["spikes_per_decision"], 1),
        "macs": (last["macs_per_decision"], 1),
        "acs": (last["acs_per_decision"], 1),
        "energy_pj": (last["energy_pj_per_decision"], 1),
        "energy_vs_same_tokens": (last.get("energy_vs_same_tokens"), 4),
        "energy_vs_dt": (last.get("energy_vs_dt"), 4),
        "energy_vs_cached_dt": (last.get("energy_vs_cached_dt"), 4),
        "total_vs_cached_dt": (last.get("total_vs_cached_dt"), 4),
        "decisions_per_second": (last["decisions_per_second"], 0),
        "minutes": (record["minutes"], 2),
    }
    rounded = {name: None if value is None else round(value, digits) for name, (value, digits) in measured.items()}
    own = {"target_return": last["target_return"], "marks": marks(record, root)}
    return {name: record.get(name) for name in COLUMNS} | own | rounded | how


def to_csv(records: Sequence[Record], root: Path = Path()) -> str:
    """Return the text of `runs.csv`. A run that two plans share has one row."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    rows = (csv_row(record, root) for record in records)
    # A dict keeps the order of rows and drops equal ones.
    writer.writerows({tuple(row.items()): row for row in rows}.values())
    return text.getvalue()
