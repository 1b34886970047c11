"""Where a run's metrics go: the record in its folder and the terminal, as one."""

from __future__ import annotations

from typing import Any

from snn_dt.training.console import Console
from snn_dt.training.tracking import Tracker


class Record:
    """Hands what the loop reports on to all who take it: the run's record, the terminal."""

    def __init__(self, *takers: Tracker | Console) -> None:
        self.takers = takers

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Hand on the metrics of a step."""
        for taker in self.takers:
            taker.log(step, metrics)

    def log_evaluation(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Hand on the rows of an evaluation."""
        for taker in self.takers:
            taker.log_evaluation(step, rows)
