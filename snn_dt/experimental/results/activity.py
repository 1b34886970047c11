"""The variants of a plan with the fewest spikes that keep the score of a spiking model."""

from __future__ import annotations

from collections.abc import Sequence

from snn_dt.experimental.results.records import Record
from snn_dt.experimental.results.table import by_dataset, by_variant, dataset_label, mean_of, number
from snn_dt.report.model_card import table

UNLIMITED_VARIANTS = {"snn_dt": "snn_dt-full", "snn_dt_stream": "snn_dt_stream"}
"""The variant without a budget, for each kind of model."""
SCORE_SHARE = 0.95


def fewest_spikes(records: Sequence[Record]) -> list[str]:
    """Return a table of the variants with the fewest spikes at 95 % of the score without a budget.

    It has one row per dataset and kind, and is empty if no variant has a budget. A random policy has score 0, so 95 %
    of a score is meaningful for returns of any sign.
    """
    kinds = [
        kind for kind in UNLIMITED_VARIANTS if any(_limited(record) for record in records if record["model"] == kind)
    ]
    rows = [
        row
        for own in by_dataset(records).values()
        for kind in kinds
        if (row := _row(dataset_label(own), [run for run in own if run["model"] == kind], UNLIMITED_VARIANTS[kind]))
    ]
    head = ("dataset", "no budget", "spikes", "score", f"fewest spikes at {SCORE_SHARE:.0%}", "spikes", "score", "µJ")
    return ["Spikes of one decision, whole network:", "", table(head, rows), ""] if rows else []


def _row(label: str, records: Sequence[Record], name: str) -> list[str] | None:
    """Return the row of one kind on one dataset; None without runs of `name`, the variant without a budget."""
    variants = by_variant([run for run in records if run["variant"] == name or _limited(run)])
    free = mean_of(variants[name], "normalized_score") if name in variants else None
    if free is None:
        return None
    spent = {
        variant: (mean_of(runs, "spikes_per_decision") or 0.0, mean_of(runs, "normalized_score") or 0.0)
        for variant, runs in variants.items()
    }
    best = min((it for it, (_, score) in spent.items() if score >= SCORE_SHARE * free), key=lambda it: spent[it])
    energy = mean_of(variants[best], "energy_pj_per_decision")
    cells = (name, _count(spent[name][0]), number(free), best, _count(spent[best][0]), number(spent[best][1]))
    return [label, *cells, number(energy, 2 if energy and energy >= 1e6 else 3, 1e-6)]


def _count(spikes: float) -> str:
    return number(spikes, 0 if spikes >= 10 else 1)


def _limited(record: Record) -> bool:
    budget = record["config"]["train"].get("budget") or {}
    return any(budget.get(name) is not None for name in ("synaptic_operations", "mean_firing_rate"))
