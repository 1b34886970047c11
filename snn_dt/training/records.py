"""What a tracker receives of a run: names of metrics and evaluations, the same for every tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snn_dt import jsonl

LAYER = "firing_rate/"
"""Prefix of the firing rate of a layer in the metrics of an update."""
PREFIXES = {
    "firing_rate": "spikes",
    "mean_firing_rate": "spikes",
    "synaptic_operations": "energy",
    "validation_loss": "eval",
    "calibration": "eval",
}
"""Section of a metric of training; others are in `train`."""
RETURNS = {
    "return_mean": "return",
    "success_rate": "success",
    "normalized_score": "score",
    "episode_length_mean": "episode_length",
}
"""Results of an evaluation, one key per target return."""
COSTS = {
    "spikes_per_decision": "spikes/per_decision",
    "firing_rate": "spikes/per_neuron_and_step",
    "macs_per_decision": "energy/macs",
    "acs_per_decision": "energy/acs",
    "energy_pj_per_decision": "energy/pj",
    "energy_vs_same_tokens": "energy/vs_dense",
    "energy_vs_dt": "energy/vs_dt",
    "decisions_per_second": "eval/decisions_per_second",
}
"""Costs of a decision at the first target; the table has those at the others."""

Curve = list[tuple[int, float, float, float]]
"""(update, mean return, low end, high end of its interval) of each evaluation."""


@dataclass(frozen=True)
class Record:
    """One call of a tracker. Names have the sections `train/`, `eval/`, `spikes/`, `energy/` and `media/`."""

    scalars: Mapping[str, float] = field(default_factory=dict)
    layers: Mapping[str, float] = field(default_factory=dict)
    """Firing rate by layer."""
    table: Sequence[Mapping[str, Any]] = ()
    """An evaluation, one row per target return, with numbers and text."""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    """All evaluations so far, by the name of the target return."""
    media: Mapping[str, bytes | Path] = field(default_factory=dict)
    """A picture (PNG) or the path of a video (MP4) by name."""
    checkpoint: tuple[Path, Sequence[str]] | None = None
    """A folder to store as a version of the model, and its aliases."""


def metrics_record(metrics: Mapping[str, Any]) -> Record:
    """Return the record of an update. What is no number is left out; nested values have names `a/b`."""
    flat = {name: value for name, value in flatten(metrics).items() if _is_number(value)}
    layers = {name.removeprefix(LAYER): value for name, value in flat.items() if name.startswith(LAYER)}
    others = {name: value for name, value in flat.items() if not name.startswith(LAYER)}
    return Record(
        {f"{PREFIXES.get(name.partition('/')[0], 'train')}/{name}": value for name, value in others.items()}, layers
    )


def evaluation_record(rows: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]) -> Record:
    """Return the record of an evaluation.

    `eval/return` is the return at the first target, which decides which checkpoint is best.

    Args:
        rows: the evaluation, one row per target return.
        history: the lines of metrics.jsonl, this evaluation among them.
    """
    scalars: dict[str, float] = {}
    for row in rows:
        name = target_name(row["target_return"])
        scalars |= {f"eval/{word}/{name}": row[key] for key, word in RETURNS.items() if _is_number(row.get(key))}
        for key, word in (("return_interval", "return"), ("success_interval", "success")):
            if bounds := row.get(key):
                scalars |= {f"eval/{word}_low/{name}": bounds[0], f"eval/{word}_high/{name}": bounds[1]}
    if rows:
        first = rows[0]
        scalars["eval/return"] = first["return_mean"]
        scalars |= {"eval/success": first["success_rate"]} if _is_number(first.get("success_rate")) else {}
        scalars |= {name: first[key] for key, name in COSTS.items() if _is_number(first.get(key))}
    flat = [{"target_return": row["target_return"], **flatten(_without_layers(row))} for row in rows]
    layers = rows[0].get("firing_rates") or {} if rows else {}
    return Record(scalars, layers, flat, _curves(history))


def target_name(target: float) -> str:
    """Return the shortest exact name of a target return, so that no two share one: `500`, `0.1`, `0.10000001`."""
    return repr(float(target)).removesuffix(".0")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings to names `a/b`. Tensors and numpy scalars become numbers."""
    flat: dict[str, Any] = {}
    for key, value in jsonl.plain(values, keep_nan=True).items():
        flat |= flatten(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _curves(history: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    curves: dict[str, dict[int, tuple[int, float, float, float]]] = {}
    for line in history:
        for row in line.get("evaluation") or ():
            mean = row["return_mean"]
            low, high = row.get("return_interval") or (mean, mean)
            curves.setdefault(target_name(row["target_return"]), {})[line["step"]] = (line["step"], mean, low, high)
    return {name: [curve[step] for step in sorted(curve)] for name, curve in curves.items()}


def _without_layers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("firing_rates", "by_module", "returns")}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
