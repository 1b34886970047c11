"""The task that a dataset describes: sizes and bounds for the model; spaces and targets for the policy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.config import Config
from snn_dt.data import Trajectories, load_dataset
from snn_dt.data.hindsight import goal_columns
from snn_dt.errors import ConfigError, DataError, EnvironmentMismatchError
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.policy import Policy, PolicySpec
from snn_dt.models import TaskShape

RESOLUTION = 1e-6
"""Least distance of returns in different bins, as a share of the largest."""
MAX_SAMPLE = 1_000_000
"""Steps that statistics are taken of."""


def load_trajectories(config: Config, trust: bool = False) -> Trajectories:
    """Load the dataset of a configuration.

    Raises:
        SnnDtError: the dataset, or the environment that its actions come from, cannot be used.
    """
    data = config.data
    found = load_dataset(
        data.dataset,
        reward_mode=data.reward_mode,
        download=data.download,
        action_space=action_space(data.dataset, config.eval.env_id),
        trust=trust,
    )
    return stacked(found, data.frame_stack)


def stacked(trajectories: Trajectories, frames: int) -> Trajectories:
    """Return a dataset whose states hold a number of frames.

    Raises:
        DataError: more than one frame, and observations without an image.
    """
    if frames > 1 and trajectories.image is None:
        raise DataError(
            f"data.frame_stack: expected 1 for {trajectories.dataset_id!r}, found {frames}: its observations hold no "
            "image; set it to 1"
        )
    return trajectories if frames == trajectories.frame_stack else replace(trajectories, frame_stack=frames)


def task_shape(trajectories: Trajectories, rtg_scale: float, goal_bins: int | None = None) -> TaskShape:
    """Return the sizes and bounds that a model is built from; infinite or very wide action bounds count as none.

    `goal_bins` is the largest number of bins of the episodes' returns; None leaves them out.
    """
    edges = None if goal_bins is None else goal_edges(trajectories, goal_bins)
    bounds, returns_to_go = trajectories.action_bounds, trajectories.returns_to_go
    columns = goal_columns(trajectories.observation_space)
    sample = returns_to_go[:: max(1, len(returns_to_go) // MAX_SAMPLE)]
    quantiles = np.quantile(sample, np.linspace(0, 1, 33))
    quantiles[[0, -1]] = returns_to_go.min(), returns_to_go.max()  # a code clamps to them: the sample may miss the best
    return TaskShape(
        state_dim=trajectories.obs_dim,
        action_dim=trajectories.action_dim,
        discrete=trajectories.discrete,
        n_timesteps=max(trajectories.max_episode_length, trajectories.time_limit or 0),
        action_low=tuple(map(float, bounds[0])) if bounds else None,
        action_high=tuple(map(float, bounds[1])) if bounds else None,
        rtg_range=(float(returns_to_go.min()) / rtg_scale, float(returns_to_go.max()) / rtg_scale),
        action_parts=trajectories.action_parts,
        rtg_quantiles=tuple(float(q) / rtg_scale for q in quantiles),
        image=None if trajectories.image is None else trajectories.image.shape,
        frames=trajectories.frame_stack,
        goal_edges=None if edges is None else tuple(float(x) / rtg_scale for x in edges),
        goal_columns=None if columns is None else (columns[1].start, columns[1].stop),
    )


def shape_of(config: Config, trajectories: Trajectories, rtg_scale: float) -> TaskShape:
    """Return the `TaskShape` that a configuration asks for.

    Raises:
        ConfigError: the configuration asks for goals that the observations lack.
    """
    space, condition, share = trajectories.observation_space, config.model.condition, config.data.relabel_goals
    if goal_columns(space) is None and (condition != "return" or share):
        field = f"data.relabel_goals: {share:g}" if condition == "return" else f"model.condition: {condition}"
        found = " ".join(str(space).split())[:120]
        found = found if trajectories.image is None else f"an image of {trajectories.image.shape}"
        raise ConfigError(
            f"{field} needs observations with achieved_goal and desired_goal, of one size, no image, found {found} in "
            f"{trajectories.dataset_id}; choose another dataset, or leave it out"
        )
    bins = None if config.model.goal == "none" else config.model.goal_bins
    return task_shape(trajectories, rtg_scale, bins)


def goal_edges(trajectories: Trajectories, bins: int) -> NDArray[np.float64]:
    """Return the ascending bounds between at most `bins` bins of the episodes' returns, in environment units.

    The bins hold equal numbers of steps, as far as whole episodes allow. A bound lies midway between two returns of the
    data, so no rounding moves an episode to another bin, equal returns share a bin, and no bin is empty.
    """
    order = np.argsort(trajectories.episode_returns, kind="stable")
    returns, lengths = trajectories.episode_returns[order], trajectories.episode_lengths[order]
    before = np.cumsum(lengths) - lengths  # steps of all episodes of a lower return
    wanted = np.arange(1, bins) / bins * lengths.sum()
    first = np.searchsorted(before, wanted - 0.5)  # first episode of each bin above the lowest
    first = first[first < len(returns)]
    distinct = np.unique(returns)
    # Returns closer than single precision can tell apart, as sums of many rewards may be, count as equal.
    starts = np.flatnonzero(np.diff(distinct, prepend=-np.inf) > RESOLUTION * np.abs(distinct).max())
    at = np.searchsorted(distinct, returns[first])
    at = starts[np.searchsorted(starts, at, side="right") - 1]
    at = np.unique(at[at > 0])
    edges: NDArray[np.float64] = (distinct[at - 1] + distinct[at]) / 2
    return edges


def bin_returns(trajectories: Trajectories, bins: int) -> tuple[float, ...]:
    """Return the mean return of the episodes of each bin of `goal_edges`, ascending."""
    returns = trajectories.episode_returns
    bin_of = np.searchsorted(goal_edges(trajectories, bins), returns, side="right")
    return tuple(float(returns[bin_of == i].mean()) for i in range(bin_of.max() + 1))


def action_space(dataset: str, env_id: str | None) -> Any:
    """Return the action space of the environment `env_id` for a D4RL file, which names no environment; else None.

    Raises:
        EnvironmentMismatchError: the environment cannot be made.
    """
    if env_id is None or not dataset.startswith("d4rl:"):
        return None
    import gymnasium

    from snn_dt.data.registration import ensure_registered

    try:
        ensure_registered(env_id)
        env = gymnasium.make(env_id, disable_env_checker=True)
    except Exception as error:  # making an environment runs code of other packages
        reason = " ".join(str(error).split()).rstrip(".")
        raise EnvironmentMismatchError(
            f"expected the environment {env_id!r}, whose actions {dataset} has, found: {reason}; check the name"
        ) from error
    env.close()
    return env.action_space


def action_deviation(trajectories: Trajectories) -> tuple[float, ...] | None:
    """Return the standard deviation of each action column over at most `MAX_SAMPLE` steps; None for choices."""
    if trajectories.discrete:
        return None
    actions = trajectories.actions[:: max(1, len(trajectories.actions) // MAX_SAMPLE)]
    return tuple(np.std(actions, axis=0, dtype=np.float64).tolist())


def rtg_scale(config: Config, trajectories: Trajectories) -> float:
    """Return the divisor of the return-to-go: the configured one or the largest |return-to-go| of the dataset."""
    returns_to_go = trajectories.returns_to_go
    return config.data.rtg_scale or max(float(returns_to_go.max()), -float(returns_to_go.min()), 1e-6)


def worth_asking(trajectories: Trajectories) -> dict[float, str]:
    """Return up to three target returns that the data can teach, best first, and what they are in the data."""
    best, tenth, median = np.quantile(trajectories.episode_returns, (1, 0.9, 0.5)).tolist()
    return dict(sorted({median: "median", tenth: "best tenth", best: "best"}.items(), reverse=True))


def make_policy(model: torch.nn.Module, trajectories: Trajectories, config: Config, rtg_scale: float) -> Policy:
    """Return a policy with the model and the spaces, statistics and target return of its dataset."""
    from minari.serialization import serialize_space

    targets, reference = config.eval.target_return, trajectories.reference
    returns, by_bin = trajectories.episode_returns, bin_returns(trajectories, config.model.goal_bins)
    target = targets[0] if targets else float(returns.max())
    spec = PolicySpec(
        dataset_id=trajectories.dataset_id,
        observation_space=serialize_space(trajectories.observation_space),
        action_space=serialize_space(trajectories.action_space),
        rtg_scale=rtg_scale,
        delayed=trajectories.reward_mode == "delayed",
        target_return=by_bin[-1] if target == "most" else float(target),
        env_id=trajectories.env_id,
        env_spec=trajectories.env_spec,
        reference=None if reference is None else vars(reference),
        action_deviation=action_deviation(trajectories),
        bin_returns=by_bin,
        return_range=(float(returns.min()), float(returns.max())),
        context_length=config.eval.context_length,
    )
    mean = torch.from_numpy(np.array(trajectories.state_mean))
    std = torch.from_numpy(np.array(trajectories.state_std))
    if not config.data.normalize:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    return Policy(model, spec, mean, std)


def can_evaluate(config: Config, policy: Policy) -> bool:
    """Tell whether there is an environment to evaluate in; called before the training to find mistakes early.

    Raises:
        SnnDtError: the environment cannot be used, or the data lack the score that a slope schedule follows.
    """
    settings, slopes, spec = config.eval, config.train.slope_schedule, policy.spec
    env_id = settings.env_id or spec.env_id
    needed = {"normalized": spec.reference, "return": env_id}
    if slopes.kind == "adaptive" and slopes.score in needed and needed[slopes.score] is None:
        raise ConfigError(
            "train.slope_schedule.score: expected a dataset with reference returns for normalized, with an "
            f"environment for return; found none for {slopes.score}; choose another one, loss needs neither"
        )
    if settings.episodes == 0 or env_id is None:
        return False
    make_environment(policy, settings.env_id, quiet=True).close()
    return True
