"""Firing rates of a run, and sinks for its metrics (run folder, wandb, terminal)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from snn_dt.data.windows import Batch
from snn_dt.snn.probe import Probe

Rows = list[dict[str, Any]]
"""An evaluation: one row per target return."""


class MetricSink(Protocol):
    """Receives the metrics of a run. Examples are `Tracker`, `Console` and `MetricSinks`."""

    def log(self, step: int, metrics: Mapping[str, Any], /) -> None:
        """Receive the metrics of one update. Steps never decrease."""

    def log_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]], /) -> None:
        """Receive an evaluation, one row per target return."""


class MetricSinks:
    """Passes metrics on to several sinks in order."""

    def __init__(self, *sinks: MetricSink) -> None:
        self.sinks = sinks

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Pass on the metrics of one update."""
        for sink in self.sinks:
            sink.log(step, metrics)

    def log_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Pass on an evaluation."""
        for sink in self.sinks:
            sink.log_evaluation(step, rows)


@torch.no_grad()
def firing_rates(model: Any, batch: Batch) -> dict[str, float]:
    """Return `firing_rate` and `firing_rate/<layer>` on the valid steps of a batch; empty without spikes."""
    model.eval()
    mask = batch.attention_mask
    tokens = model.token_mask(mask)
    with Probe(model) as probe:
        model(*batch.fields)
        # The length of a layer's tokens selects the mask: [B, K] of steps or [B, L] of tokens.
        rates = probe.firing_rates({mask.shape[1]: mask, tokens.shape[1]: tokens})
    model.train()
    if not rates:
        return {}
    return {"firing_rate": sum(rates.values()) / len(rates), **{f"firing_rate/{k}": v for k, v in rates.items()}}
