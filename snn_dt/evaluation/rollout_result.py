"""What a rollout gives: returns, lengths and successes of its episodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from snn_dt.energy import DecisionMeter
from snn_dt.evaluation.statistics import wilson_interval


@dataclass
class Rollout:
    """Episodes at one target return."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    policy_seconds: float
    """Time in `policy.act` without metering."""
    meter: DecisionMeter = field(repr=False)
    cut: int = 0
    """Number of episodes that reached the step cap; see `evaluate`."""
    successes: NDArray[np.int64] | None = None
    """1 for each episode in which the environment reported success at some step, else 0; -1 if it reports none."""

    @property
    def success_rate(self) -> float | None:
        """The share of successful episodes, in [0, 1]; None if the environment does not report success."""
        return None if self.successes is None or self.successes.min() < 0 else float(self.successes.mean())

    @property
    def success_interval(self) -> list[float] | None:
        """The 95 % interval of the success rate; None if the environment does not report success."""
        if self.successes is None or self.success_rate is None:
            return None
        return list(wilson_interval(int(self.successes.sum()), len(self.successes)))


def success(info: Any) -> int:
    """Return 1 or 0 for the success that the environment reports in `info` (`success`, `is_success`), -1 for none."""
    found = info.get("success", info.get("is_success")) if isinstance(info, Mapping) else None
    return -1 if found is None or np.size(found) != 1 else int(np.ravel(found)[0] > 0)
