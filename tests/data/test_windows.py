"""What a batch contains, which windows are drawn, and that the draw is a pure function."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import WindowSampler

LENGTHS = [5, 1, 12, 3, 40]
K = 8
FIELDS = ("rtg", "states", "actions", "timesteps", "attention_mask")


def expected_window(t: Trajectories, end: int, rtg_scale: float, start: int = 0) -> dict[str, np.ndarray]:
    """One window by a plain loop: K steps that end at `end`, none from before the episode."""
    episode = max(e for e in range(t.n_episodes) if t.episode_offsets[e] <= end)
    rows = range(max(end - K + 1, t.episode_offsets[episode]), end + 1)
    pads = K - len(rows)
    window = {
        "rtg": np.zeros((K, 1)),
        "states": np.zeros((K, t.obs_dim)),
        "actions": np.zeros((K, *t.actions.shape[1:])),
        "timesteps": np.zeros(K),
        "attention_mask": np.zeros(K),
    }
    for i, row in enumerate(rows, start=pads):
        window["rtg"][i] = t.returns_to_go[row] / rtg_scale
        window["states"][i] = (t.observations[row] - t.state_mean) / t.state_std
        window["actions"][i] = t.actions[row] - start
        window["timesteps"][i] = row - t.episode_offsets[episode]
        window["attention_mask"][i] = 1
    return window


@pytest.mark.parametrize("start", [None, 0, 3])
def test_every_window_holds_its_steps_left_padded_with_zeros(trajectories, start):
    action_space = {} if start is None else {"action_space": spaces.Discrete(4, start=start)}
    t = trajectories(LENGTHS, **action_space)
    batch = WindowSampler(t, K, rtg_scale=10.0).at(np.arange(t.n_steps))
    for end in range(t.n_steps):
        for name, expected in expected_window(t, end, 10.0, start or 0).items():
            np.testing.assert_allclose(getattr(batch, name)[end].numpy(), expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_types_and_shapes_are_those_of_the_contract(trajectories):
    batch = WindowSampler(trajectories(LENGTHS), K, rtg_scale=10.0).batch(0, 0, 16)
    assert [tuple(getattr(batch, name).shape) for name in FIELDS] == [
        (16, K, 1),
        (16, K, 3),
        (16, K, 2),
        (16, K),
        (16, K),
    ]
    floats, integers = [torch.float32] * 3, [torch.int64, torch.bool]
    assert [getattr(batch, name).dtype for name in FIELDS] == floats + integers
    discrete = WindowSampler(trajectories(LENGTHS, action_space=spaces.Discrete(4, start=2)), K, rtg_scale=1.0).batch(
        0, 0, 64
    )
    assert discrete.actions.dtype == torch.int64
    assert discrete.actions.shape == (64, K)
    assert set(discrete.actions.unique().tolist()) == {0, 1, 2, 3}


def test_batches_leave_the_dataset_unchanged(trajectories):
    t = trajectories(LENGTHS, action_space=spaces.Discrete(4, start=2))
    before = t.observations.copy(), t.actions.copy(), t.returns_to_go.copy()
    WindowSampler(t, K, rtg_scale=10.0).at(np.arange(t.n_steps))
    for array, copy in zip((t.observations, t.actions, t.returns_to_go), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_without_normalisation_states_are_the_observations(trajectories):
    t = trajectories([30])
    batch = WindowSampler(t, K, rtg_scale=1.0, normalize=False).at(np.array([29]))
    np.testing.assert_array_equal(batch.states[0], t.observations[22:30])


@pytest.mark.parametrize("episodes", [None, [0, 3, 4]])
def test_every_step_of_the_chosen_episodes_is_equally_likely_to_end_a_window(trajectories, episodes):
    t = trajectories(LENGTHS)
    chosen = None if episodes is None else np.array(episodes)
    windows = WindowSampler(t, 1, rtg_scale=1.0, episodes=chosen, normalize=False)
    row_of = {state.tobytes(): row for row, state in enumerate(t.observations)}
    draws = [windows.batch(7, step, 100).states[:, 0].numpy() for step in range(300)]
    counts = np.bincount([row_of[state.tobytes()] for batch in draws for state in batch], minlength=t.n_steps)
    allowed = np.concatenate([np.arange(*t.episode_offsets[e : e + 2]) for e in episodes or range(5)])
    assert counts.sum() == counts[allowed].sum() == 30_000
    expected = 30_000 / len(allowed)
    chi_square = ((counts[allowed] - expected) ** 2 / expected).sum()
    freedom = len(allowed) - 1
    assert freedom - 4 * np.sqrt(2 * freedom) < chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_len_is_the_number_of_steps_of_the_chosen_episodes(trajectories):
    t = trajectories(LENGTHS)
    assert len(WindowSampler(t, K, rtg_scale=1.0)) == 61
    some = WindowSampler(t, K, rtg_scale=1.0, episodes=np.array([4, 1]))
    assert len(some) == 41
    ends = some._last_steps(np.arange(41))
    assert sorted(ends.tolist()) == [5, *range(21, 61)]


def test_a_batch_is_a_pure_function_of_seed_and_step(trajectories):
    t = trajectories(LENGTHS)
    windows = WindowSampler(t, K, rtg_scale=1.0)
    late_first = [windows.batch(0, step, 32) for step in (5, 3, 4)]
    again = [WindowSampler(t, K, rtg_scale=1.0).batch(0, step, 32) for step in (5, 3, 4)]
    for one, other in zip(late_first, again, strict=True):
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in FIELDS)
    assert not torch.equal(late_first[0].states, late_first[1].states)
    assert not torch.equal(late_first[0].states, windows.batch(1, 5, 32).states)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_the_ranks_slices_make_up_the_batch_of_one_process(trajectories, world_size):
    windows = WindowSampler(trajectories(LENGTHS), K, rtg_scale=1.0)
    whole = windows.batch(3, 11, 32)
    parts = [windows.batch(3, 11, 32, rank=rank, world_size=world_size) for rank in range(world_size)]
    for name in FIELDS:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


def test_a_batch_moves_to_a_device_as_a_whole(trajectories):
    batch = WindowSampler(trajectories(LENGTHS), K, rtg_scale=1.0).batch(0, 0, 4).to("meta")
    assert {getattr(batch, name).device.type for name in FIELDS} == {"meta"}


def test_the_share_asked_for_is_raised_by_one_amount_per_window_and_nothing_else_changes(trajectories):
    t = trajectories(LENGTHS)
    plain, raised = (WindowSampler(t, K, rtg_scale=10.0, raised=share).batch(3, 11, 20_000) for share in (0.0, 0.3))
    for name in FIELDS[1:]:
        assert torch.equal(getattr(raised, name), getattr(plain, name))
    mask, by = plain.attention_mask, (raised.rtg - plain.rtg).squeeze(-1)
    assert (by[~mask] == 0).all(), "a pad stays zero"
    by_last = by[:, -1:].expand_as(by)
    torch.testing.assert_close(by[mask], by_last[mask], atol=1e-5, rtol=0)
    more = by[:, -1][by[:, -1] > 0]
    assert (by[:, -1] >= 0).all()
    assert len(more) / 20_000 == pytest.approx(0.3, abs=0.02)
    spread = float(np.ptp(t.returns_to_go)) / 10.0
    assert float(more.mean()) == pytest.approx(0.1 * spread, rel=0.05)
    assert float(more.std()) == pytest.approx(0.1 * spread, rel=0.1), "exponential: mean and deviation are one"


def test_ranks_raise_their_slices_as_one_process_does(trajectories):
    windows = WindowSampler(trajectories(LENGTHS), K, rtg_scale=1.0, raised=0.5)
    parts = [windows.batch(3, 11, 32, rank=rank, world_size=4).rtg for rank in range(4)]
    assert torch.equal(torch.cat(parts), windows.batch(3, 11, 32).rtg)
