"""Histogram of the returns of a dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from snn_dt.data.trajectories import Trajectories
from snn_dt.errors import DataError


def plot_returns(trajectories: Trajectories, path: str | Path, bins: int = 40) -> None:
    """Write two histograms of episode returns to an image file, weighted by episodes and by steps.

    Training windows are drawn by steps, so a dataset of mostly bad but short episodes may have mostly good steps.
    Raises `DataError` if the file cannot be written.
    """
    from matplotlib.figure import Figure  # the object interface needs no display

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    returns, lengths = trajectories.episode_returns, trajectories.episode_lengths
    left, right = figure.subplots(1, 2, sharex=True)
    left.hist(returns, bins=bins, color="#4477aa")
    left.set(xlabel="episode return", ylabel="episodes")
    # Weighted by length, each episode counts once for each of its steps.
    right.hist(returns, bins=bins, weights=lengths, color="#66a182")
    right.set(xlabel="return of the step's episode", ylabel="steps")
    panels = (
        (left, returns.mean(), f"{trajectories.n_episodes:,} episodes"),
        (right, np.average(returns, weights=lengths), f"{trajectories.n_steps:,} steps"),
    )
    for axes, mean, title in panels:
        lines = [axes.axvline(mean, color="black", linewidth=1, label="mean")]
        if reference := trajectories.reference:
            lines += [
                axes.axvline(reference.min, color="#cc3311", linestyle=":", label=f"score 0: {reference.min:.1f}"),
                axes.axvline(reference.max, color="#cc3311", linestyle="--", label=f"score 100: {reference.max:.1f}"),
            ]
        axes.set_title(f"{title}, mean {mean:.1f}", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
    figure.suptitle(f"{trajectories.dataset_id}  ({trajectories.env_id or 'no environment named'})")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot write the histogram to {str(path)!r} ({error}): expected a writable .png") from error
