"""Flights become sequences: where they are cut, what is padded, what counts as an end."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from snn_dt.experimental.online.buffer import Flight, SequenceBuffer, starts


def flight(steps: int, terminated: bool = True) -> Flight:
    """Observations, actions and rewards that say which step they are of."""
    count = np.arange(steps + 1, dtype=np.float32)
    return Flight(np.stack([count, count], 1), count[:-1, None], count[:-1], terminated)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(500, [*range(0, 401, 50)]), (230, [0, 50, 100, 130]), (100, [0]), (101, [0, 1]), (40, [0])],
)
def test_sequences_of_100_begin_every_50_steps_and_the_last_one_ends_with_the_flight(steps, expected):
    assert starts(steps, 100, 50) == expected


def test_what_comes_out_is_what_went_in():
    buffer = SequenceBuffer(10, 100, 50, 2, 1)
    buffer.add(flight(230))
    batch = buffer.sample(64, np.random.default_rng(0))
    first = batch.rewards[0]
    assert set(first.tolist()) == {0.0, 50.0, 100.0, 130.0}
    assert batch.observations.shape == (101, 64, 2)
    steps = torch.arange(101.0)[:, None] + first
    assert torch.equal(batch.observations[..., 0], steps)
    assert torch.equal(batch.actions[..., 0], steps[:-1])
    assert batch.valid.all()


def test_only_the_last_step_of_a_crash_is_an_end():
    for crashed in (True, False):
        buffer = SequenceBuffer(10, 100, 50, 2, 1)
        buffer.add(flight(230, terminated=crashed))
        batch = buffer.sample(64, np.random.default_rng(0))
        last = batch.rewards[-1] == 229
        assert last.any()
        assert torch.equal(batch.terminated[-1], last.float() * crashed)
        assert not batch.terminated[:-1].any()


def test_a_short_flight_is_padded_behind_and_leaves_nothing_of_what_was_in_its_place():
    buffer = SequenceBuffer(1, 100, 50, 2, 1)
    buffer.add(flight(100))
    buffer.add(flight(30))
    batch = buffer.sample(2, np.random.default_rng(0))
    assert batch.valid.sum(0).tolist() == [30, 30]
    assert batch.terminated.nonzero()[:, 0].unique().tolist() == [29]
    assert not batch.observations[31:].any()
    assert not batch.actions[30:].any()


def test_the_oldest_sequences_give_way():
    buffer = SequenceBuffer(3, 100, 50, 2, 1)
    buffer.add(flight(230))
    assert buffer.size == 3
    assert sorted(set(buffer.rewards[:, 0])) == [50, 100, 130]


def test_a_saved_buffer_goes_on_alike():
    ours, theirs = (SequenceBuffer(5, 100, 50, 2, 1) for _ in range(2))
    ours.add(flight(230))
    theirs.load_state_dict(ours.state_dict())
    for buffer in (ours, theirs):
        buffer.add(flight(150))
    for a, b in zip(*(x.sample(16, np.random.default_rng(3)) for x in (ours, theirs)), strict=True):
        assert torch.equal(a, b)
