"""Calibration: whether a policy achieves its target returns.

M targets, E episodes at each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from snn_dt.evaluation.statistics import stratified_interval

MIN_TARGETS = 3
"""Fewer targets have no calibration: two can only be in the right or in the wrong order."""


@dataclass(frozen=True)
class Calibration:
    """Target and achieved returns, in environment units, and two numbers that sum them up.

    Source of the rank correlation: Spearman 1904; equal values share the mean of their ranks.
    """

    targets: tuple[float, ...]
    """The distinct targets, ascending."""
    returns: tuple[float, ...]
    """Mean return achieved at each target."""
    intervals: tuple[tuple[float, float], ...]
    """95 % bootstrap interval of each mean return, over episodes."""
    spread: float
    """The highest minus the lowest return: of the training data, or of the targets if the data's are unknown."""
    spread_of: str
    """`data` or `targets`."""
    error: float
    """Mean over the targets of |mean return - target|, divided by the spread; 0 is perfect."""
    error_interval: tuple[float, float]
    """95 % bootstrap interval of the error, over episodes."""
    rank_correlation: float | None
    """Correlation of the ranks of targets and mean returns, in [-1, 1]; None if all returns are equal."""


def calibration(rows: Sequence[Mapping[str, Any]], data_returns: ArrayLike | None = None) -> Calibration | None:
    """Return the calibration of an evaluation, or None with fewer than three distinct targets or without spread.

    Args:
        rows: evaluation rows, one per target. Of several with one target the last one counts.
        data_returns: returns of the training data or their quantiles, the lowest and the highest among them.
    """
    by_target = {float(row["target_return"]): row for row in rows}
    if len(by_target) < MIN_TARGETS:
        return None
    targets = np.array(sorted(by_target))  # [M]
    chosen = [by_target[target] for target in targets]
    known = targets if data_returns is None else np.asarray(data_returns, dtype=np.float64)
    spread = float(known.max() - known.min())
    if spread <= 0:
        return None
    means = np.array([row["return_mean"] for row in chosen], dtype=np.float64)  # [M]

    def error(episodes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the error of each resample, `[..., E, M] -> [...]`."""
        return np.asarray(np.abs(episodes.mean(axis=-2) - targets).mean(axis=-1) / spread)

    episodes = np.array([row["returns"] for row in chosen], dtype=np.float64).T  # [M, E] -> [E, M]
    low, high = stratified_interval(error, episodes, rng=np.random.default_rng(0))
    return Calibration(
        targets=tuple(targets.tolist()),
        returns=tuple(means.tolist()),
        intervals=tuple((float(a), float(b)) for a, b in (row["return_interval"] for row in chosen)),
        spread=spread,
        spread_of="targets" if data_returns is None else "data",
        error=float(np.abs(means - targets).mean() / spread),
        error_interval=(float(low), float(high)),
        rank_correlation=rank_correlation(targets, means),
    )


def summary(found: Calibration) -> str:
    """Return the calibration in one sentence."""
    low, high = found.error_interval
    order = "none, all returns are equal" if found.rank_correlation is None else f"{found.rank_correlation:.2f}"
    of = "the data's returns" if found.spread_of == "data" else "the targets; the data's returns are unknown"
    return (
        f"calibration over {len(found.targets)} targets: mean |return - target| is {100 * found.error:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}] of the spread {found.spread:.5g} (highest minus lowest of {of}); rank "
        f"correlation {order}"
    )


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float | None:
    """Return Spearman's rank correlation of two vectors `[M]`; None if one of them is constant."""
    a, b = (_ranks(np.asarray(values, dtype=np.float64)) for values in (x, y))
    if not a.std() or not b.std():
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 12)  # rounding errors are left out: 1 is 1


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks of `values [M]` from 1 on; equal values share their mean rank."""
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    # A group of n equal values that ends at rank r has the mean rank r - (n - 1) / 2.
    return (np.cumsum(counts) - (counts - 1) / 2)[position.reshape(-1)]


def data_quantiles(provenance: Mapping[str, Any]) -> NDArray[np.float64] | None:
    """Return the quantiles of the training data's returns `[Q]` that a checkpoint states, from lowest to highest.

    None if it states none, or something else than rising finite numbers.
    """
    try:
        found = np.asarray(provenance.get("dataset_return_quantiles"), dtype=np.float64)
    except (TypeError, ValueError):
        return None
    good = found.ndim == 1 and found.size > 1 and bool(np.isfinite(found).all()) and bool((np.diff(found) >= 0).all())
    return found if good else None


def spread_targets(quantiles: ArrayLike, n: int, even: bool = False) -> list[float]:
    """Return `n` targets from the highest to the lowest return of the data: at equal steps of probability.

    Quantiles that are equal are one target, so data in which a return repeats give fewer. With `even` the steps are
    equal in return instead: some targets may then lie where the data hold few episodes.
    """
    known = np.asarray(quantiles, dtype=np.float64)
    found = np.linspace(known.max(), known.min(), n) if even else np.quantile(known, np.linspace(1, 0, n))
    return list(dict.fromkeys(found.tolist()))
