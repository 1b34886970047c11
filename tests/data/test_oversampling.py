"""A share of every batch is drawn from the best episodes, the rest from all, on any number of ranks."""

from __future__ import annotations

import pytest
import torch

from snn_dt.data.episode_streams import EpisodeStreams
from snn_dt.data.windows import OversampledWindows, WindowSampler

LENGTHS = [5, 1, 12, 3, 40, 8]
K = 8
FIELDS = ("rtg", "states", "actions", "timesteps", "attention_mask")


@pytest.fixture(params=[WindowSampler, EpisodeStreams])
def parts(request, trajectories):
    t = trajectories(LENGTHS)
    best = t.best(torch.arange(len(LENGTHS)).numpy(), 0.2)
    return (
        request.param(t, K, rtg_scale=10.0, raised=0.3),
        request.param(t, K, rtg_scale=10.0, episodes=best),
        t,
        best,
    )


def episodes_of(batch, t) -> set[int]:
    """The episodes that the last steps of the rows are of."""
    by_state = {
        tuple(row): i for i, row in enumerate(WindowSampler(t, 1, rtg_scale=1.0).at(every(t)).states[:, 0].tolist())
    }
    rows = [by_state[tuple(row)] for row in batch.states[:, -1].tolist()]
    return {int((t.episode_offsets <= row).sum()) - 1 for row in rows}


def every(t):
    return torch.arange(t.n_steps).numpy()


def test_the_last_rows_are_of_the_best_and_the_rest_of_all(parts):
    all_of_them, best, t, chosen = parts
    mixture, seen = OversampledWindows(all_of_them, best, 0.25), set()
    for step in range(20):
        batch = mixture.batch(3, step, 16)
        assert len(batch.rtg) == 16
        assert episodes_of(batch_rows(batch, slice(12, 16)), t) <= set(chosen.tolist())
        seen |= episodes_of(batch_rows(batch, slice(0, 12)), t)
    assert seen == set(range(len(LENGTHS)))


def batch_rows(batch, rows):
    return type(batch)(**{name: getattr(batch, name)[rows] for name in FIELDS})


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_together_draw_what_one_process_draws(parts, world_size):
    mixture = OversampledWindows(parts[0], parts[1], 0.3)
    whole = mixture.batch(3, 11, 16)
    slices = [mixture.batch(3, 11, 16, rank=rank, world_size=world_size) for rank in range(world_size)]
    for name in FIELDS:
        assert torch.equal(torch.cat([getattr(part, name) for part in slices]), getattr(whole, name))
    assert not torch.equal(mixture.batch(3, 12, 16).states, whole.states)
    assert not torch.equal(mixture.batch(4, 11, 16).states, whole.states)


def test_the_two_parts_draw_independently(trajectories):
    windows = WindowSampler(trajectories([1000]), K, rtg_scale=1.0)
    batch = OversampledWindows(windows, windows, 0.5).batch(0, 0, 2000)
    first, second = batch.timesteps[:, -1].double().chunk(2)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 0.1
