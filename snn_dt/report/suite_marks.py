"""What a record says against itself: code that no commit holds, or a command whose config files are gone."""

from __future__ import annotations

import shlex
from pathlib import Path

from snn_dt.report.results_table import Record

MARK = "‡"
MEANING = (
    f"{MARK} so many of the seeds were made while files had changes that were not committed (`-dirty` behind the "
    "commit in the record): the commit alone need not make them again. In figures their dots are hollow."
)


def uncommitted(record: Record) -> bool:
    """Tell whether a record names no commit that holds the code that made it."""
    commit = record.get("commit")
    return not commit or str(commit).endswith("-dirty")


def gone(record: Record, root: Path) -> list[str]:
    """Return the config files that a record's command names and that are no longer under `root`."""
    words = shlex.split(record.get("command") or "")
    return [word for word in words if word.endswith(".yaml") and not (root / word).exists()]


def older_transition(record: Record) -> bool:
    """Tell whether a DSFormer was trained as in 0.1.0: 200 forwards of transition, the first of them left out."""
    model = record["config"]["model"]
    return str(model["kind"]).startswith("dsformer") and model["norm_transition"] > 1


def marks(record: Record, root: Path) -> str:
    """Return the marks of one record, as `runs.csv` has them: `uncommitted; gone: configs/x.yaml`."""
    found = ["uncommitted"] if uncommitted(record) else []
    if files := gone(record, root):
        found.append(f"gone: {' '.join(files)}")
    if older_transition(record):
        found.append("transition: 200 forwards")
    return "; ".join(found)
