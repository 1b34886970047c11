"""The table of a suite of runs: one record per run in, `runs.csv` and a readable page out.

A record is what a trial leaves (`snn_dt/cli/trial.py`): `evaluation` holds the rows of the last checkpoint, one per
target return, of which the first is the headline; `best_evaluation` that of the best checkpoint on the way.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from snn_dt.evaluation.statistics import interquartile_mean, stratified_interval

Record = Mapping[str, Any]

COLUMNS = (
    "dataset", "env_id", "model", "variant", "seed", "updates", "target_return", "last_return_mean",
    "best_return_mean", "normalized_score", "spikes_per_decision", "macs", "acs", "energy_pj", "energy_vs_same_tokens",
    "energy_vs_dt", "decisions_per_second", "minutes", "commit", "command",
)  # fmt: skip


def csv_row(record: Record) -> dict[str, Any]:
    """Return the row of `runs.csv` of one run; what was not measured is empty."""
    last, best = record["evaluation"][0], record["best_evaluation"][0]
    facts = {name: record.get(name) for name in COLUMNS}
    return facts | {
        "target_return": last["target_return"],
        "last_return_mean": round(last["return_mean"], 3),
        "best_return_mean": round(best["return_mean"], 3),
        "normalized_score": _rounded(last["normalized_score"]),
        "spikes_per_decision": _rounded(last["spikes_per_decision"], 1),
        "macs": _rounded(last["macs_per_decision"], 1),
        "acs": _rounded(last["acs_per_decision"], 1),
        "energy_pj": _rounded(last["energy_pj_per_decision"], 1),
        "energy_vs_same_tokens": _rounded(last.get("energy_vs_same_tokens"), 4),
        "energy_vs_dt": _rounded(last.get("energy_vs_dt"), 4),
        "decisions_per_second": _rounded(last["decisions_per_second"], 0),
        "minutes": _rounded(record["minutes"], 2),
    }


def to_csv(records: Sequence[Record]) -> str:
    """Return `runs.csv`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(csv_row, records))
    return text.getvalue()


def page(records: Sequence[Record], published: Mapping[str, Mapping[str, str]]) -> str:
    """Return the Markdown tables: one per dataset, then all datasets together, then the other targets.

    `published`: for an environment, lines `{name: text}` to print under its table.
    """
    parts = []
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        own = [record for record in records if record["dataset"] == dataset]
        parts += [f"### {own[0]['env_id']}, `{dataset}`", "", _dataset_table(own), "", _bounds(own), ""]
        if lines := published.get(own[0]["env_id"]):
            parts += [f"- {name}: {text}" for name, text in lines.items()] + [""]
    if len({record["dataset"] for record in records}) > 1:
        parts += ["### All of them", "", _aggregate(records), ""]
    return "\n".join([*parts, "### Asked for less", "", _conditioning(records), ""])


def _dataset_table(records: Sequence[Record]) -> str:
    head = (
        "variant", "seeds", "last return", "IQM of the seeds, 95 % interval", "best return", "score", "spikes",
        "M MACs", "M ACs", "µJ", "of dense, same tokens", "of the 3-token DT", "decisions/s", "minutes",
    )  # fmt: skip
    rows = []
    for name, runs in by_variant(records).items():
        last, best = [r["evaluation"][0] for r in runs], [r["best_evaluation"][0] for r in runs]
        returns = [row["return_mean"] for row in last]
        rows.append(
            [
                name,
                str(len(runs)),
                _spread(returns),
                _interval(returns),
                _number(_mean(row["return_mean"] for row in best)),
                _number(_mean(row["normalized_score"] for row in last)),
                _number(_mean(row["spikes_per_decision"] for row in last), 0),
                _number(_mean(row["macs_per_decision"] for row in last), 2, 1e-6),
                _number(_mean(row["acs_per_decision"] for row in last), 2, 1e-6),
                _number(_mean(row["energy_pj_per_decision"] for row in last), 2, 1e-6),
                _percent(_mean(row.get("energy_vs_same_tokens") for row in last)),
                _percent(_mean(row.get("energy_vs_dt") for row in last)),
                _number(_mean(row["decisions_per_second"] for row in last), 0),
                _number(_mean(r["minutes"] for r in runs)),
            ]
        )
    target = records[0]["evaluation"][0]["target_return"]
    note = f"Target {target:g}, {records[0]['evaluation'][0]['episodes']} episodes per seed."
    return f"{note}\n\n{_table(head, rows)}"


def _aggregate(records: Sequence[Record]) -> str:
    """Scores of all datasets: IQM over seeds and datasets, runs resampled within each dataset."""
    datasets = list(dict.fromkeys(record["dataset"] for record in records))
    rows = []
    for name, runs in by_variant(records).items():
        scores = [[r["evaluation"][0]["normalized_score"] for r in runs if r["dataset"] == d] for d in datasets]
        depth = min(map(len, scores))
        if depth == 0:
            continue  # a variant that some dataset has not is no mean over them
        matrix = np.array([column[:depth] for column in scores], dtype=float).T  # [seeds, datasets]
        low, high = stratified_interval(interquartile_mean, matrix, rng=np.random.default_rng(0))
        rows.append([name, str(depth), f"{float(interquartile_mean(matrix)):.1f}", f"{low:.1f} to {high:.1f}"])
    return _table(("variant", "seeds", "IQM of the scores", "95 % interval, stratified bootstrap"), rows)


def _conditioning(records: Sequence[Record]) -> str:
    rows = []
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        own = [record for record in records if record["dataset"] == dataset]
        for name, runs in by_variant(own).items():
            targets = [row["target_return"] for row in runs[0]["evaluation"]]
            if len(targets) > 1:
                cells = [
                    f"{target:g} → {_number(_mean(r['evaluation'][i]['return_mean'] for r in runs))}"
                    for i, target in enumerate(targets)
                ]
                rows.append([own[0]["env_id"], name, str(len(runs)), ", ".join(cells)])
    return _table(("environment", "variant", "seeds", "asked → got"), rows)


def _bounds(records: Sequence[Record]) -> str:
    reference = next((record["reference"] for record in records if record.get("reference")), None)
    if not reference:
        return "No reference returns are known."
    low, high = reference["min"], reference["max"]
    return f"A random policy gets {low:.1f} (score 0), the best known agent {high:.1f} (score 100)."


def by_variant(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Group records by variant, in the order in which they come."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record["variant"] or record["model"], []).append(record)
    return groups


def _interval(returns: Sequence[float]) -> str:
    if len(returns) < 3:
        return "-"
    column = np.array(returns)[:, None]
    low, high = stratified_interval(interquartile_mean, column, rng=np.random.default_rng(0))
    return f"{float(interquartile_mean(column)):.1f} ({low:.1f} to {high:.1f})"


def _spread(returns: Sequence[float]) -> str:
    mean = f"{np.mean(returns):.1f}"
    return f"{mean} ± {np.std(returns, ddof=1):.1f}" if len(returns) > 1 else mean


def _mean(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _rounded(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    return "-" if value is None else f"{value * scale:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line: Callable[[Sequence[str]], str] = lambda cells: "| " + " | ".join(cells) + " |"  # noqa: E731
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])
