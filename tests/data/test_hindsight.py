"""Hindsight relabelling: whose goals a window gets, that the draw is a pure function, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from snn_dt.data.episode_streams import EpisodeStreams
from snn_dt.data.hindsight import goal_columns
from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import WindowSampler
from tests.any_spaces import quick


def wandering(lengths: list[int]) -> Trajectories:
    """Episodes whose achieved goal names the step, (step, -step), and whose desired goal the episode."""
    n = sum(lengths)
    steps, episodes = np.arange(n, dtype=float), np.repeat(np.arange(len(lengths)), lengths) + 1000.0
    observations = {
        "observation": steps[:, None] / 2,
        "achieved_goal": np.stack([steps, -steps], 1),
        "desired_goal": np.stack([episodes, episodes], 1),
    }
    ends = np.isin(steps, np.cumsum(lengths) - 1)
    return Trajectories.from_arrays(observations, np.zeros((n, 1)), np.ones(n), ends, np.zeros(n, bool))


def sampler(t: Trajectories, share: float, kind: type[WindowSampler] = WindowSampler, k: int = 4) -> WindowSampler:
    return kind(t, k, rtg_scale=1.0, normalize=False, relabelled=share)


LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@settings(quick, max_examples=40)
@given(LENGTHS, st.floats(0.01, 1), st.integers(0, 50))
def test_a_relabelled_window_desires_what_its_own_episode_achieved_later_and_nothing_else_differs(lengths, share, step):
    t = wandering(lengths)
    achieved, desired = goal_columns(t.observation_space)
    plain, found = sampler(t, 0).batch(3, step, 32), sampler(t, share).batch(3, step, 32)
    others = np.setdiff1d(np.arange(t.obs_dim), np.arange(desired.start, desired.stop))
    assert torch.equal(found.states[..., others], plain.states[..., others])
    assert all(torch.equal(a, b) for a, b in zip(found.fields[2:], plain.fields[2:], strict=True))
    for window, own, mask in zip(found.states, plain.states, found.attention_mask, strict=True):
        goals, last = window[mask][:, desired], int(window[-1, achieved.start])
        assert (window[~mask] == 0).all()
        assert (goals == goals[0]).all()
        if not torch.equal(goals, own[mask][:, desired]):
            step_of_goal = int(goals[0, 0])
            assert goals[0, 1] == -step_of_goal
            episode = np.searchsorted(t.episode_offsets, last, side="right")
            assert last < step_of_goal < t.episode_offsets[episode]


def test_the_share_of_relabelled_windows_is_the_one_asked_for_and_every_later_step_is_drawn():
    t = wandering([40])
    desired = sampler(t, 0.25).batch(0, 0, 40_000).states[:, -1, goal_columns(t.observation_space)[1].start].numpy()
    assert (desired < 1000).mean() == pytest.approx(0.25 * 39 / 40, abs=0.01)  # the last window has no later step
    assert set(desired[desired < 1000].tolist()) == set(range(1, 40))


@pytest.mark.parametrize("kind", [WindowSampler, EpisodeStreams])
def test_batches_are_a_function_of_seed_and_step_and_do_not_depend_on_the_ranks(kind):
    t = wandering([5, 1, 7, 9])
    whole = sampler(t, 0.5, kind)
    for step in (7, 2, 7):  # a resumed run makes a new sampler and asks for any step
        expected = sampler(t, 0.5, kind).batch(1, step, 8)
        assert all(torch.equal(a, b) for a, b in zip(whole.batch(1, step, 8).fields, expected.fields, strict=True))
        parts = [sampler(t, 0.5, kind).batch(1, step, 8, rank=r, world_size=2).states for r in (0, 1)]
        assert torch.equal(torch.cat(parts), expected.states)
    assert not torch.equal(whole.batch(1, 2, 8).states, whole.batch(2, 2, 8).states)


def test_a_stream_keeps_one_goal_through_an_episode_that_of_its_last_step():
    t = wandering([5, 9, 7])
    desired = goal_columns(t.observation_space)[1].start
    streams = sampler(t, 1.0, EpisodeStreams, k=3)
    for step in range(12):
        batch = streams.batch(0, step, 4)
        for window, mask in zip(batch.states, batch.attention_mask, strict=True):
            last_of_episode = (
                t.episode_offsets[np.searchsorted(t.episode_offsets, int(window[-1, 0]), side="right")] - 1
            )
            assert (window[mask][:, desired] == last_of_episode).all()


def test_goals_are_known_only_if_a_dict_has_both_of_one_size():
    two, three = spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (3,))
    space = spaces.Dict(observation=three, achieved_goal=two, desired_goal=two)
    achieved, desired = goal_columns(space)
    value = {"observation": np.full(3, 0.1), "achieved_goal": np.full(2, 0.2), "desired_goal": np.full(2, 0.3)}
    flat = spaces.flatten(space, value)
    assert np.allclose(flat[achieved], 0.2)
    assert np.allclose(flat[desired], 0.3)
    assert goal_columns(spaces.Dict(observation=two, achieved_goal=two, desired_goal=three)) is None
    assert goal_columns(spaces.Dict(observation=two, desired_goal=two)) is None
    assert goal_columns(two) is None
