"""Streams read whole episodes, window after window, each once before any comes again; a draw is a pure function."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from snn_dt.data.episode_streams import EpisodeStreams

LENGTHS = [5, 1, 12, 3, 40, 8]
K = 8
PER_EPOCH = sum(-(-n // K) for n in LENGTHS)


@pytest.fixture
def lanes(trajectories) -> EpisodeStreams:
    """EpisodeStreams over episodes whose observations tell every step apart."""
    return EpisodeStreams(trajectories(LENGTHS), K, rtg_scale=10.0)


def steps_of(batch, lane: int) -> list[tuple]:
    """The real steps of a lane's window: timestep and observation."""
    mask = batch.attention_mask[lane]
    return [(int(t), *s.tolist()) for t, s in zip(batch.timesteps[lane][mask], batch.states[lane][mask], strict=True)]


def test_a_window_begins_an_episode_or_goes_on_where_the_one_before_ended(lanes):
    last = [None] * 4
    for step in range(3 * PER_EPOCH):
        batch = lanes.batch(0, step, 4)
        for lane in range(4):
            timesteps = [t for t, *_ in steps_of(batch, lane)]
            first = int(batch.timesteps[lane, 0])
            assert timesteps == list(range(timesteps[0], timesteps[0] + len(timesteps)))
            if first == 0:
                assert timesteps[0] == 0
            else:
                assert batch.attention_mask[lane].all()
                assert last[lane] is None or first == last[lane] + 1
            last[lane] = timesteps[-1]


def test_every_step_is_read_once_before_any_is_read_again(lanes):
    seen = [Counter() for _ in range(3)]
    begins = [None] * 3
    for step in range(3 * PER_EPOCH):
        batch = lanes.batch(5, step, 3)
        for lane in range(3):
            seen[lane].update(steps_of(batch, lane))
            begins[lane] = begins[lane] or int(batch.timesteps[lane, 0]) == 0
    for counts in seen:
        assert sum(counts.values()) == pytest.approx(3 * sum(LENGTHS), abs=2 * K)  # the first episodes begin inside
        assert len(counts) == sum(LENGTHS)
        assert set(counts.values()) <= {2, 3, 4}


def test_a_batch_is_a_pure_function_of_seed_and_step(lanes, trajectories):
    other = EpisodeStreams(trajectories(LENGTHS), K, rtg_scale=10.0)
    wanted = [other.batch(1, step, 4) for step in range(50)]
    for step in (49, 3, 30, 31, 0, 49):
        again = lanes.batch(1, step, 4)
        for name in ("rtg", "states", "actions", "timesteps", "attention_mask"):
            assert np.array_equal(getattr(again, name), getattr(wanted[step], name)), name
    differ = lanes.batch(2, 3, 4)
    assert not np.array_equal(differ.states, wanted[3].states)


def test_ranks_share_the_lanes(lanes):
    whole = lanes.batch(0, 7, 6)
    parts = [lanes.batch(0, 7, 6, rank=rank, world_size=3) for rank in range(3)]
    assert np.array_equal(np.concatenate([p.states for p in parts]), whole.states)


def test_lanes_are_of_all_ages_and_orders(trajectories):
    lanes = EpisodeStreams(trajectories([40] * 30), K, rtg_scale=1.0)
    batches = [lanes.batch(0, step, 64) for step in (0, 20)]
    for batch in batches:
        assert len(set(batch.timesteps[:, 0].tolist())) == 5, "episodes of equal length are not read in step"
    assert len({float(x) for x in batches[1].states[:, -1, 0]}) > 30


def test_only_the_chosen_episodes_are_read(trajectories):
    t = trajectories(LENGTHS)
    lanes = EpisodeStreams(t, K, rtg_scale=1.0, episodes=np.array([2, 5]), normalize=False)
    allowed = {
        tuple(row.tolist()) for e in (2, 5) for row in t.observations[t.episode_offsets[e] : t.episode_offsets[e + 1]]
    }
    for step in range(12):
        batch = lanes.batch(0, step, 5)
        assert {tuple(s.tolist()) for s in batch.states[batch.attention_mask]} <= allowed


def test_an_episode_is_raised_as_a_whole_and_anew_when_it_is_read_again(trajectories):
    t = trajectories(LENGTHS)
    plain, raised = (EpisodeStreams(t, K, rtg_scale=10.0, raised=share) for share in (0.0, 0.5))
    by: dict[tuple[int, int, int], set[float]] = {}
    for step in range(3 * PER_EPOCH):
        one, other = plain.batch(0, step, 4), raised.batch(0, step, 4)
        assert np.array_equal(one.states, other.states)
        for lane in range(4):
            mask = one.attention_mask[lane]
            episode = int(np.searchsorted(t.episode_offsets, plain._window(0, lane, step)[0], side="right"))
            epoch = (plain._start(0, lane) + step) // PER_EPOCH
            found = by.setdefault((lane, epoch, episode), set())
            found |= {round(float(x), 4) for x in (other.rtg - one.rtg)[lane][mask]}
    assert all(len(amounts) == 1 for amounts in by.values())
    amounts = [amount.pop() for amount in by.values()]
    assert 0.3 < np.mean([amount > 0 for amount in amounts]) < 0.7
    assert len({amount for amount in amounts if amount > 0}) > len(amounts) / 4, "no two episodes by the same amount"
