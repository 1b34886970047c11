"""The interquartile mean of a few runs, and its interval over runs and episodes.

Source: Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021. The point
estimates equal those of its library rliable. Shapes: R runs (training seeds), M tasks, E episodes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from snn_dt.evaluation.statistics import Array, percentile_interval, score_matrix


def interquartile_mean(scores: npt.ArrayLike) -> Array:
    """Return the mean of the middle half of all runs of all tasks, `[..., R, M] -> [...]`.

    Of n = R M sorted scores, `floor(n / 4)` are cut at either end (a 25 % trimmed mean), so n < 4 gives the mean.
    """
    scores = score_matrix(scores)
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)  # [..., R M]
    cut = flat.shape[-1] // 4  # number of scores removed at each end
    return np.asarray(flat[..., cut : flat.shape[-1] - cut].mean(axis=-1))


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
        statistic: as in `stratified_interval`, of matrices of scores.
        returns: for each argument of the statistic, episode returns `[R, M, E]` of R runs of M tasks.
        rng, confidence, samples: as in `stratified_interval`.
    """
    resampled = []
    for argument in returns:
        episodes = np.asarray(argument, dtype=np.float64)
        if episodes.ndim != 3:
            raise ValueError(f"expected returns of shape [runs, tasks, episodes], got shape {episodes.shape}")
        runs, tasks, n = score_matrix(episodes).shape
        picked = rng.integers(runs, size=(samples, runs, tasks))  # [S, R, M]
        drawn = rng.integers(n, size=(samples, runs, tasks, n))  # [S, R, M, E]
        scores = episodes[picked[..., None], np.arange(tasks)[:, None], drawn].mean(axis=-1)  # [S, R, M]
        resampled.append(scores)
    return percentile_interval(statistic(*resampled), confidence)
