"""What a window says of its episode, and the bins of the returns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_dt import task
from snn_dt.config import config_from_dict
from snn_dt.data.episode_streams import EpisodeStreams
from snn_dt.data.windows import WindowSampler, join
from snn_dt.models import build_model
from snn_dt.task import bin_returns, goal_edges, task_shape
from tests.runs import CARTPOLE

LENGTHS = [5, 1, 12, 3, 40, 8]


@pytest.mark.parametrize("kind", [WindowSampler, EpisodeStreams])
def test_the_goal_is_the_return_of_the_whole_episode_also_where_the_label_is_raised(kind, trajectories):
    t = trajectories(LENGTHS)
    batch = kind(t, 4, rtg_scale=10.0, raised=1.0, goals=True).batch(0, 3, 16)
    plain = kind(t, 4, rtg_scale=10.0).batch(0, 3, 16)
    assert batch.goal.shape == (16, 1)
    assert plain.goal is None
    assert len(plain.fields) == 5
    scaled = (t.episode_returns / 10).astype(np.float32)
    assert np.isclose(batch.goal.numpy(), scaled, atol=1e-5).any(1).all()
    both = join([batch, batch])
    assert both.goal.shape == (32, 1)


def test_bins_hold_whole_episodes_in_order_and_none_is_empty(trajectories):
    t = trajectories(LENGTHS * 5, seed=3)
    edges = goal_edges(t, 4)
    of_step = np.repeat(np.searchsorted(edges, t.episode_returns, side="right"), t.episode_lengths)
    shares = np.bincount(of_step) / t.n_steps
    assert len(shares) == len(edges) + 1
    assert (shares > 0).all()
    assert shares.max() - 0.25 < t.episode_lengths.max() / t.n_steps
    means = bin_returns(t, 4)
    assert list(means) == sorted(means)
    assert means[-1] == pytest.approx(t.episode_returns[t.episode_returns > edges[-1]].mean())


def test_equal_returns_share_one_bin(trajectories):
    t = trajectories([4] * 6)
    t.returns_to_go[:] = 7.0
    t.__dict__.pop("episode_returns", None)
    assert len(goal_edges(t, 10)) == 0
    assert bin_returns(t, 10) == (7.0,)


def test_returns_that_single_precision_hardly_tells_apart_share_one_bin(trajectories):
    t = trajectories([4] * 6)
    near = np.nextafter(np.float32(2876.756), np.float32(9999))
    for episode, value in enumerate([10, 2876.756, 2876.756, near, near, near]):
        t.returns_to_go[4 * episode : 4 * episode + 4] = value
    t.__dict__.pop("episode_returns", None)
    assert bin_returns(t, 10) == (10.0, pytest.approx(2876.756))
    scale = float(near)
    goals = WindowSampler(t, 2, rtg_scale=scale, goals=True).at(np.arange(0, 24, 4)).goal
    edges = torch.tensor(task_shape(t, scale, 10).goal_edges)
    assert torch.searchsorted(edges, goals, right=True).ravel().tolist() == [0, 1, 1, 1, 1, 1]


def test_a_code_reaches_the_highest_return_also_where_quantiles_are_of_a_sample(trajectories, monkeypatch):
    t = trajectories([4] * 6)
    best = int(t.returns_to_go.argmax())
    t.returns_to_go[best + 1 - best % 2] = 99.0  # every second step is in the sample
    monkeypatch.setattr(task, "MAX_SAMPLE", 12)
    assert task_shape(t, 1.0).rtg_quantiles[-1] == task_shape(t, 1.0).rtg_range[1] == 99.0


def test_the_default_target_of_a_training_for_the_most_is_the_mean_of_the_best_bin():
    changes = {"data": {"dataset": CARTPOLE}, "model": {"goal_bins": 2}, "eval": {"target_return": ["most"]}}
    config = config_from_dict(changes)
    t = task.load_trajectories(config)
    model = build_model(config.model.resolved(), task.shape_of(config, t, 1.0))
    spec = task.make_policy(model, t, config, 1.0).spec
    assert spec.target_return == spec.target("most") == spec.bin_returns[-1] < spec.return_range[1]
