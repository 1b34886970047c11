"""Markdown tables of the runs of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from snn_dt.experimental.results.activity import fewest_spikes
from snn_dt.experimental.results.records import UNCOMMITTED_MARK, UNCOMMITTED_NOTE, Record, uncommitted
from snn_dt.experimental.results.table import by_dataset, by_variant, dataset_label, difference, flagged_layers, headline, interval, mean_of, mean_score, number, percent, scores, spread
from snn_dt.report.model_card import table

BASELINE = "dense"
ABOVE_NOTE = "† above the best known agent: treat it as a mistake until it is explained."


def page(title: str, records: Sequence[Record], published: Mapping[str, Sequence[str]], key: str = "") -> str:
    """Return the Markdown of one plan: a table over all datasets and one table per dataset.

    Args:
        title: the heading.
        records: records of the plan.
        published: notes by environment id or by `key`. They are printed under the heading of the environment or plan.
        key: name of the plan in `published`.
    """
    parts = [f"### {title}", "", *_notes(published.get(key, ())), *_together(records), *fewest_spikes(records)]
    parts += _conditioning(records)
    for dataset, own in by_dataset(records).items():
        env_id = own[0]["env_id"]
        parts += [f"#### {env_id}, `{dataset}`", "", *_dataset(own), *_notes(published.get(env_id, ()))]
    return "\n".join(parts)


def short_table(records: Sequence[Record], variants: Sequence[str]) -> str:
    """Return a table of the mean last return on each dataset for the `variants` that have runs."""
    datasets = by_dataset(records)
    rows = []
    for name in variants:
        of = [by_variant(own).get(name, []) for own in datasets.values()]
        if runs := [run for own in of for run in own]:
            returns = [number(mean_of(own, "return_mean")) for own in of]
            counts = sorted({len(own) for own in of if own})
            marked = f" {UNCOMMITTED_MARK}" if any(map(uncommitted, runs)) else ""
            rows.append(
                [
                    f"`{name}`",
                    *returns,
                    number(mean_score([scores(own) for own in of])),
                    percent(mean_of(runs, "energy_vs_cached_dt")),
                    percent(mean_of(runs, "energy_vs_same_tokens")),
                    " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) + marked,
                ]
            )
    head = (
        "variant",
        *map(dataset_label, datasets.values()),
        "mean score",
        "energy of cached dense",
        "of recomputing dense",
        "seeds",
    )
    return table(head, rows)


def _dataset(records: Sequence[Record]) -> list[str]:
    head = (
        "variant", "seeds", "last return", "IQM (95 %)", "best return", "score", "spikes", "M MACs", "M ACs",
        "M updates", "µJ", "of cached DT", "with memory", "of dense, same tokens", "of the 3-token DT", "decisions/s",
        "minutes",
    )  # fmt: skip
    reference = next((record["reference"] for record in records if record.get("reference")), None)
    rows = [_row(name, runs, reference) for name, runs in by_variant(records).items()]
    notes = [ABOVE_NOTE] if any("†" in row[3] for row in rows) else []
    notes += [UNCOMMITTED_NOTE] if any(UNCOMMITTED_MARK in row[1] for row in rows) else []
    if reference:
        bounds = ("*best known agent*", reference["max"], "100.0"), ("*random policy*", reference["min"], "0.0")
        rows += [[name, "", number(value), "", "", score, *[""] * 11] for name, value, score in bounds]
        notes.append(f"Scores: {reference['source']}.")
    row = records[0]["evaluation"][0]
    note = f"Target return {row['target_return']:g}, {row['episodes']} episodes per seed. {flagged_layers(records)}"
    return [note, "", table(head, rows), "", *(f"{note}\n" for note in notes)]


def _row(name: str, runs: Sequence[Record], reference: Mapping[str, float] | None) -> list[str]:
    middle, low, high = interval([headline(runs)])
    above = " †" if reference and low > reference["max"] else ""
    return [
        name,
        seeds(runs),
        spread([run["evaluation"][0]["return_mean"] for run in runs]),
        f"{middle:.1f} ({low:.1f} to {high:.1f}){above}",
        number(mean_of(runs, "return_mean", "best_evaluation")),
        number(mean_of(runs, "normalized_score")),
        number(mean_of(runs, "spikes_per_decision"), 0),
        number(mean_of(runs, "macs_per_decision"), 2, 1e-6),
        number(mean_of(runs, "acs_per_decision"), 2, 1e-6),
        number(mean_of(runs, "neuron_updates_per_decision"), 2, 1e-6),
        number(mean_of(runs, "energy_pj_per_decision"), 2, 1e-6),
        percent(mean_of(runs, "energy_vs_cached_dt")),
        percent(mean_of(runs, "total_vs_cached_dt")),
        percent(mean_of(runs, "energy_vs_same_tokens")),
        percent(mean_of(runs, "energy_vs_dt")),
        *_times(runs),
    ]


def seeds(runs: Sequence[Record]) -> str:
    """Return the number of runs and the number of marked runs if not zero: `5 (4 ‡)`."""
    marked = sum(map(uncommitted, runs))
    return f"{len(runs)} ({marked} {UNCOMMITTED_MARK})" if marked else str(len(runs))


def _times(runs: Sequence[Record]) -> tuple[str, str]:
    """Return decisions/s and minutes. Runs on a CPU are preferred."""
    on_cpu = [run for run in runs if run.get("device", "cpu") == "cpu"]
    timed = on_cpu or runs
    minutes = number(sum(run["minutes"] for run in timed) / len(timed))
    return number(mean_of(timed, "decisions_per_second"), 0), minutes if on_cpu else f"{minutes} (GPU)"


def _together(records: Sequence[Record]) -> list[str]:
    """Return a table over all datasets with the scores, energy and difference to `dense` of each variant."""
    datasets = by_dataset(records)
    against = datasets if BASELINE in by_variant(records) else {}
    rows = []
    for name, runs in by_variant(records).items():
        of = {dataset: by_variant(own).get(name, []) for dataset, own in datasets.items()}
        columns = [scores(own) for own in of.values()]
        whole = all(len(column) for column in columns)
        # A mean over some datasets cannot be compared with one over all.
        middle, low, high = interval(columns) if whole else (0.0, 0.0, 0.0)
        rows.append(
            [
                name,
                str(min(map(len, columns))) if whole else "",
                number(mean_score(columns)),
                f"{middle:.1f} ({low:.1f} to {high:.1f})" if whole else "",
                percent(mean_of(runs, "energy_vs_cached_dt")),
                percent(mean_of(runs, "energy_vs_same_tokens")),
                *(_against(of[dataset], by_variant(own).get(BASELINE, []), name) for dataset, own in against.items()),
            ]
        )
    labels = [dataset_label(own) for own in against.values()]
    head = ("variant", "seeds", "mean score", "IQM of scores (95 %)", "energy of cached DT", "of dense, same tokens")
    note = (
        "Scores over all datasets. One failure counts in full in the mean; the interquartile mean (IQM) over runs and "
        "datasets omits the lowest and the highest quarter. In brackets: 95 % intervals."
    )
    if against:
        note += f" Per dataset: the return minus that of {BASELINE}, IQM."
    return [note, "", table((*head, *labels), rows), ""]


def _against(runs: Sequence[Record], baseline: Sequence[Record], name: str) -> str:
    if not runs or not baseline or name == BASELINE:
        return ""
    middle, low, high = difference(headline(runs), headline(baseline))
    return f"{middle:+.1f} ({low:+.1f} to {high:+.1f})"


def _conditioning(records: Sequence[Record]) -> list[str]:
    """Return a table of mean returns over seeds at each target. The headline target is first."""
    datasets = {
        dataset: own for dataset, own in by_dataset(records).items() if len(own[0]["evaluation"]) > 1
    }  # one target cannot show conditioning
    if not datasets:
        return []
    rows = []
    for name in by_variant(records):
        cells = []
        for own in datasets.values():
            runs = by_variant(own).get(name, [])
            returns = [[row["return_mean"] for row in run["evaluation"]] for run in runs]
            cells.append(" / ".join(number(sum(at) / len(at)) for at in zip(*returns, strict=True)))
        rows.append([name, *cells])
    targets = [" / ".join(f"{row['target_return']:g}" for row in own[0]["evaluation"]) for own in datasets.values()]
    head = [f"{dataset_label(own)}: {target}" for own, target in zip(datasets.values(), targets, strict=True)]
    return [
        "Mean return of the last checkpoints at each target return:",
        "",
        table(("variant", *head), rows),
        "",
    ]


def _notes(lines: Sequence[str]) -> list[str]:
    return [*(f"- {line}" for line in lines), ""] if lines else []
