"""Cells of the tables of results.

Shapes: R runs (training seeds), M datasets, E episodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from snn_dt.experimental.results.records import Record
from snn_dt.experimental.results.robust_mean import interquartile_mean, nested_interval

Returns = NDArray[np.float64]


def by_dataset(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Group records by dataset in order of appearance."""
    return _grouped(records, lambda record: record["dataset"])


def dataset_label(records: Sequence[Record]) -> str:
    """Return the label of a dataset: environment and dataset, such as "Hopper-v5 `medium-v0`"."""
    return f"{records[0]['env_id']} `{records[0]['dataset'].split('/')[-1]}`"


def by_variant(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Group records by variant in order of appearance."""
    return _grouped(records, lambda record: record["variant"] or record["model"])


def _grouped(records: Sequence[Record], key: Callable[[Record], str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def headline(runs: Sequence[Record]) -> list[Returns]:
    """Return the episode returns `[E]` of the last checkpoint of each run at the first target."""
    return [np.array(run["evaluation"][0]["returns"], dtype=np.float64) for run in runs]


def scores(runs: Sequence[Record]) -> list[Returns]:
    """Return `headline` as normalised scores. Empty without reference returns."""
    if not runs or not (reference := runs[0].get("reference")):
        return []
    low, high = reference["min"], reference["max"]
    return [100 * (returns - low) / (high - low) for returns in headline(runs)]


def mean_score(columns: Sequence[Sequence[Returns]]) -> float | None:
    """Return the mean over datasets of the mean score over runs and episodes; None if a dataset has no scores."""
    return float(np.mean([np.mean(column) for column in columns])) if all(map(len, columns)) else None


def interval(columns: Sequence[Sequence[Returns]]) -> tuple[float, float, float]:
    """Return the interquartile mean over runs and datasets, and its 95 % interval by resampling runs and episodes.

    `columns` holds the returns `[E]` of each run for each dataset. All datasets are cut to the smallest number of runs
    and episodes.
    """
    returns = _stacked(columns)  # [R, M, E]
    # A fixed seed makes the same table from the same records.
    low, high = nested_interval(interquartile_mean, returns, rng=np.random.default_rng(0))
    return float(interquartile_mean(returns.mean(-1))), float(low), float(high)


def difference(ours: Sequence[Returns], theirs: Sequence[Returns]) -> tuple[float, float, float]:
    """Return the interquartile mean of `ours` minus that of `theirs` with its 95 % interval."""

    def gap(a: Returns, b: Returns) -> Returns:
        return interquartile_mean(a) - interquartile_mean(b)

    a, b = _stacked([ours]), _stacked([theirs])  # [R, 1, E] and [S, 1, E]
    low, high = nested_interval(gap, a, b, rng=np.random.default_rng(0))
    return float(gap(a.mean(-1), b.mean(-1))), float(low), float(high)


def _stacked(columns: Sequence[Sequence[Returns]]) -> Returns:
    """Return `[R, M, E]`, cut to the smallest number of runs and episodes."""
    # A rectangular array needs equal numbers of runs and episodes.
    runs = min(map(len, columns))
    episodes = min(len(run) for column in columns for run in column[:runs])
    return np.array([[run[:episodes] for run in column[:runs]] for column in columns]).swapaxes(0, 1)  # [R, M, E]


def flagged_layers(records: Sequence[Record]) -> str:
    """Return a sentence with the dead and saturated layers of each variant and the number of runs."""
    found = []
    for name, runs in by_variant(records).items():
        flags = Counter(pair for run in runs for pair in (run["evaluation"][0].get("layer_flags") or {}).items())
        found += [f"{name} `{layer}` {flag} in {n} of {len(runs)} runs" for (layer, flag), n in flags.items()]
    return f"Dead or saturated layers: {'; '.join(found)}." if found else "No layer is dead or saturated."


def mean_of(runs: Sequence[Record], name: str, key: str = "evaluation") -> float | None:
    """Return the mean over runs of one value at the first target; None if no run has it."""
    values = [run[key][0].get(name) for run in runs]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def spread(values: Sequence[float]) -> str:
    """Return mean ± standard deviation."""
    mean = f"{np.mean(values):.1f}"
    return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean


def number(value: float | None, digits: int = 1, scale: float = 1.0) -> str:
    """Return `value * scale` with `digits` decimals; empty for None."""
    return "" if value is None else f"{value * scale:,.{digits}f}"


def percent(value: float | None) -> str:
    """Return a fraction as a percentage; empty for None."""
    return "" if value is None else f"{100 * value:.1f} %"
