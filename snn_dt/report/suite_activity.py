"""How little activity a spiking network gets by with, over the variants of a suite (records: see `suite.py`)."""

from __future__ import annotations

from collections.abc import Sequence

from snn_dt.report.suite_cells import Record, by_dataset, by_variant, mean_of, number, table

FREE = "snn_dt-full"
SHARE = 0.95


def fewest_spikes(records: Sequence[Record]) -> list[str]:
    """Return a table: per dataset, the variant of fewest spikes with at least 95 % of the score of `snn_dt-full`.

    Scores are 0 for a random policy, so that 95 % of them means the same whatever a return's sign. Empty where no
    variant limits its activity.
    """
    if not any(_limited(record) for record in records):
        return []
    rows = []
    for own in by_dataset(records).values():
        variants = by_variant([run for run in own if run["variant"] == FREE or _limited(run)])
        free = mean_of(variants.get(FREE, []), "normalized_score") if FREE in variants else None
        if free is None:
            continue
        spent = {
            name: (mean_of(runs, "spikes_per_decision") or 0.0, mean_of(runs, "normalized_score") or 0.0)
            for name, runs in variants.items()
        }
        best = min((name for name, (_, score) in spent.items() if score >= SHARE * free), key=lambda name: spent[name])
        energy = mean_of(variants[best], "energy_pj_per_decision")
        rows.append(
            [
                own[0]["env_id"],
                number(spent[FREE][0], 0),
                number(free),
                best,
                number(spent[best][0], 0),
                number(spent[best][1]),
                number(energy, 2, 1e-6),
            ]
        )
    head = ("environment", f"spikes, {FREE}", "its score", f"fewest spikes at {SHARE:.0%}", "spikes", "score", "µJ")
    return ["Spikes of one decision, whole network:", "", table(head, rows), ""] if rows else []


def _limited(record: Record) -> bool:
    budget = record["config"]["train"].get("budget") or {}
    return any(budget.get(name) is not None for name in ("synaptic_operations", "mean_firing_rate"))
