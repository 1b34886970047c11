"""Energy of recorded runs relative to the Decision Transformer that keeps keys and values.

Records made before 2026-12 lack this number. It follows from the sizes of the model, the mean context and the mean
length of the episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from snn_dt.energy import HOROWITZ, TRANSCENDENTAL_MACS, Count, cached_count, cached_decision_transformer
from snn_dt.model_config import ModelConfig
from snn_dt.models import TaskShape

SIZES = ("d_model", "n_layers", "n_heads", "mlp_ratio", "context_length")


def with_cached_baseline(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose evaluation rows have `energy_vs_cached_dt`, `memory_vs_cached_dt`, `total_vs_cached_dt`.

    A record without counts by module is returned as it is.
    """
    modules, model = record.get("by_module"), record["config"].get("model", {})
    if not modules or not set(SIZES) <= set(model):
        return record
    config = replace(ModelConfig(kind="dense"), **{name: model[name] for name in SIZES})
    steps = record["evaluation"][0].get("context_steps")
    task = _task(modules, config.d_model, 1.0 if model.get("kind") == "snn_dt_stream" else steps)
    if task is None:
        return record
    rows = {
        key: [row | _ratios(row, config, task) for row in record[key]]
        for key in ("evaluation", "best_evaluation")
        if key in record
    }
    return record | rows


def _task(modules: Mapping[str, Any], width: int, steps: float | None) -> TaskShape | None:
    """Return the sizes of a task, read from the operations of the embedding and of the linear head of a model."""
    if not steps or "head" not in modules or "embedding.state" not in modules:
        return None
    states, head = round(modules["embedding.state"][0] / (width * steps)), modules["head"][0]
    discrete = not modules["embedding.action"][0]
    # The head of bounded actions ends in a tanh and a scaling.
    bounded = not discrete and round(head) % (width + TRANSCENDENTAL_MACS + 1) == 0
    actions = round(head / (width + (TRANSCENDENTAL_MACS + 1) * bounded))
    bounds = {"action_low": (-1.0,) * actions, "action_high": (1.0,) * actions} if bounded else {}
    return TaskShape(states, actions, discrete, 1, **bounds)


def _ratios(row: Mapping[str, Any], config: ModelConfig, task: TaskShape) -> dict[str, float]:
    if "energy_vs_cached_dt" in row or "context_steps" not in row:
        return {}
    length, span = row["episode_length_mean"], config.context_length
    # Episodes of equal length have `length - span` decisions beyond the first `span`.
    shares = 1 / length, max(0.0, 1 - span / length)
    cached = cached_count(cached_decision_transformer(config), task, row["context_steps"], *shares)
    energy, memory = row["energy_pj_per_decision"], row.get("memory_bytes_per_decision")
    found = {"energy_vs_cached_dt": energy / HOROWITZ.energy_pj(cached)}
    if memory is not None:
        total = energy + HOROWITZ.total_pj(Count(memory_bytes=memory))
        found |= {
            "memory_vs_cached_dt": memory / cached.memory_bytes,
            "total_vs_cached_dt": total / HOROWITZ.total_pj(cached),
        }
    return found
