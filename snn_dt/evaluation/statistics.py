"""Statistics of a few expensive runs: robust means, bootstrap intervals and comparisons of two methods.

A score matrix `[..., R, M]` has R runs (training seeds) of each of M tasks. Leading axes are resamples.
Definitions: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021. The
point estimates equal those of its library rliable. Empty or non-finite scores raise ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def mean(scores: npt.ArrayLike) -> Array:
    """Return the mean over runs and tasks, `[..., R, M] -> [...]`."""
    return np.asarray(_matrix(scores).mean(axis=(-2, -1)))


def median(scores: npt.ArrayLike) -> Array:
    """Return the median over tasks of each task's mean over runs, `[..., R, M] -> [...]`."""
    return np.asarray(np.median(_matrix(scores).mean(axis=-2), axis=-1))


def interquartile_mean(scores: npt.ArrayLike) -> Array:
    """Return the mean of the middle half of all runs of all tasks, `[..., R, M] -> [...]`.

    Of n = R M sorted scores, `floor(n / 4)` are cut at either end (a 25 % trimmed mean), so n < 4 gives the mean.
    """
    scores = _matrix(scores)
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)  # [..., R M]
    cut = flat.shape[-1] // 4  # number of scores removed at each end
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


def optimality_gap(scores: npt.ArrayLike, target: float = 1.0) -> Array:
    """Return the mean distance below the target, `target - mean(min(score, target))`, `[..., R, M] -> [...]`."""
    return np.asarray(target - np.minimum(_matrix(scores), target).mean(axis=(-2, -1)))


def probability_of_improvement(ours: npt.ArrayLike, theirs: npt.ArrayLike) -> Array:
    """Return the mean over tasks of P(X > Y) + P(X = Y) / 2 for runs X of `ours` and Y of `theirs` (Mann-Whitney).

    `ours` is `[..., R, M]` and `theirs` is `[..., S, M]`, with the tasks in the same order. The result is `[...]`.
    """
    ours, theirs = _matrix(ours), _matrix(theirs)
    if ours.shape[-1] != theirs.shape[-1]:
        raise ValueError(f"both need the same tasks: got {ours.shape[-1]} and {theirs.shape[-1]} columns")
    margin = ours[..., :, None, :] - theirs[..., None, :, :]  # [..., R, S, M]
    return np.asarray(((np.sign(margin) + 1.0) / 2.0).mean(axis=(-3, -2, -1)))


def performance_profile(scores: npt.ArrayLike, thresholds: npt.ArrayLike) -> Array:
    """Return the fraction of runs with a score above each of P thresholds, `[..., R, M] -> [..., P]`."""
    above = _matrix(scores)[..., None] > np.asarray(thresholds, dtype=np.float64)  # [..., R, M, P]
    return np.asarray(above.mean(axis=(-3, -2)))


def stratified_interval(
    statistic: Callable[..., Array],
    *scores: npt.ArrayLike,
    rng: np.random.Generator,
    confidence: float = 0.95,
    samples: int = 2000,
) -> tuple[Array, Array]:
    """Return the percentile bootstrap interval of `statistic(*scores)`. Runs are resampled within each task.

    Args:
        statistic: one of the functions above or another one that keeps leading axes.
        scores: one `[R, M]` matrix for each argument of the statistic. R may differ between them.
        rng: generator of the resamples.
        confidence: nominal coverage, in (0, 1).
        samples: number of resamples.

    Returns:
        The lower and the upper bound, each with the shape of the statistic.
    """
    return _quantiles(statistic(*(_resample(_matrix(matrix), samples, rng) for matrix in scores)), confidence)


def nested_interval(
    statistic: Callable[..., Array],
    *returns: npt.ArrayLike,
    rng: np.random.Generator,
    confidence: float = 0.95,
    samples: int = 2000,
) -> tuple[Array, Array]:
    """Return the interval of `statistic` over runs, including the uncertainty of each run's mean over few episodes.

    A percentile bootstrap in two stages. First the runs are resampled within each task, then the episodes of each drawn
    run. The score is the mean over the drawn episodes. With one run this is the interval over its episodes.

    Args:
        statistic: As in `stratified_interval`, of matrices of scores.
        returns: For each argument of the statistic, episode returns `[R, M, E]` of R runs of M tasks.
        rng, confidence, samples: As in `stratified_interval`.
    """
    resampled = []
    for argument in returns:
        episodes = np.asarray(argument, dtype=np.float64)
        if episodes.ndim != 3:
            raise ValueError(f"expected returns of shape [runs, tasks, episodes], got shape {episodes.shape}")
        runs, tasks, n = _matrix(episodes).shape
        picked = rng.integers(runs, size=(samples, runs, tasks))  # [S, R, M]
        drawn = rng.integers(n, size=(samples, runs, tasks, n))  # [S, R, M, E]
        scores = episodes[picked[..., None], np.arange(tasks)[:, None], drawn].mean(axis=-1)  # [S, R, M]
        resampled.append(scores)
    return _quantiles(statistic(*resampled), confidence)


def bootstrap_interval(
    returns: Sequence[float] | Array,
    confidence: float = 0.95,
    rng: np.random.Generator | None = None,
    samples: int = 2000,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of episode returns `[E]`.

    It describes the spread over episodes of one policy, not over training seeds. It is too narrow for few episodes. On
    a Gaussian a nominal 0.95 covers 0.90 with 10 episodes, 0.93 with 20 and 0.95 with 50. With `rng=None` the random
    stream is fixed, so equal returns give equal intervals.
    """
    column = np.asarray(returns, dtype=np.float64).reshape(-1, 1)  # [E, 1]
    rng = np.random.default_rng(0) if rng is None else rng
    low, high = stratified_interval(mean, column, rng=rng, confidence=confidence, samples=samples)
    return float(low), float(high)


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a success rate after `successes` in `n` episodes (Wilson 1927).

    With `p = successes / n` and the quantile z of the normal distribution, `(p + z^2 / 2n +- z sqrt(p (1 - p) / n +
    z^2 / 4n^2)) / (1 + z^2 / n)`. Unlike a bootstrap it is not empty at a rate of 0 or 1.
    """
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return max(low, 0.0), min(high, 1.0)


def _resample(scores: Array, samples: int, rng: np.random.Generator) -> Array:
    """Draw R runs with replacement for each task independently, `[R, M] -> [samples, R, M]`."""
    runs, tasks = scores.shape
    picked = rng.integers(runs, size=(samples, runs, tasks))
    return np.asarray(scores[picked, np.arange(tasks)])  # [samples, R, M]


def _quantiles(resampled: Array, confidence: float) -> tuple[Array, Array]:
    """Return the bounds of the percentile interval of values `[samples, ...]`."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    # Half of the excluded probability lies on each side.
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def _matrix(scores: npt.ArrayLike) -> Array:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim < 2 or matrix.size == 0:
        raise ValueError(f"expected scores of shape [runs, tasks] with at least one of each, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("expected finite scores, found NaN or infinity: drop or repeat the runs that failed")
    return matrix
