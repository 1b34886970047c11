"""Merged tokens: what is in them, and that none of it drowns the return-to-go."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.experimental.finetune.return_range import widen_returns
from snn_dt.models import TaskShape
from snn_dt.models.embedding import TokenEmbedding
from tests.conftest import CONTINUOUS, DISCRETE, TINY, make_batch, make_model


def test_a_merged_token_is_the_norm_of_return_to_go_state_and_the_action_before(task):
    torch.manual_seed(0)
    e = TokenEmbedding(task.state_dim, task.action_dim, task.discrete, 16, positions=None, merged=True)
    batch = make_batch(task)
    found = e(*batch.fields)
    for b, length in enumerate((6, 3, 1)):
        for t in range(6 - length, 6):
            x = e.rtg(batch.rtg[b, t]) + e.state(batch.states[b, t])
            if t > 6 - length:  # the first step of a window knows no action before
                x = x + e.action(batch.actions[b, t - 1])
            torch.testing.assert_close(found[b, t], e.norm(x))


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("state_dim", [2, 111])
@pytest.mark.parametrize("rtg_range", [(0.0, 1.0), (-1.0, 0.0), (0.0, 4.0)])
def test_a_merged_token_hears_the_return_to_go_as_loudly_as_the_state(rtg_range, state_dim, task):
    torch.manual_seed(0)
    e = TokenEmbedding(state_dim, task.action_dim, task.discrete, 64, None, merged=True, rtg_range=rtg_range)
    low, high = rtg_range
    rtg = low + (high - low) * torch.rand(500, 1).square()  # most returns-to-go are far from the best
    actions = torch.arange(task.action_dim) if task.discrete else torch.randn(500, task.action_dim)
    parts = {"rtg": e.rtg(rtg), "state": e.state(torch.randn(500, state_dim)), "action": e.action(actions)}
    spread = {name: part.std(0).square().mean().sqrt().item() for name, part in parts.items()}
    assert 0.5 < spread["rtg"] / spread["state"] < 2.5
    assert spread["action"] < 0.2 * spread["rtg"]


@pytest.mark.parametrize("kind", ["dense", "snn_dt", "snn_dt_stream"])
def test_returns_beyond_the_data_are_heard_once_they_were_learned_from(kind):
    task = TaskShape(3, 2, True, 9, rtg_range=(0.0, 1.0), rtg_quantiles=tuple(i / 32 for i in range(33)))
    model = make_model(dataclasses.replace(TINY, kind=kind), task)
    states, mask = torch.ones(1, 1, 3), torch.ones(1, 1, dtype=torch.bool)
    actions, steps = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)

    def heard(model, rtg):
        return model(torch.full((1, 1, 1), rtg), states, actions, steps, mask)

    inside = heard(model, 0.7)
    assert torch.equal(heard(model, 1.0), heard(model, 1.5))
    widen_returns(model, 0.4, 1.5)
    assert model.task.rtg_range == (0.0, 1.5)
    assert torch.equal(heard(model, 0.7), inside)
    assert torch.equal(heard(model, 1.5), heard(model, 9.0))
    embeddings = (
        [model.embedding.rtg_range]
        if kind != "snn_dt_stream"
        else [(model.embedding.code.low, model.embedding.code.high)]
    )
    assert embeddings == [(0.0, 1.5)]
    other = make_model(model.config, model.task)
    other.load_state_dict(model.state_dict())
    assert torch.equal(heard(other, 1.4), heard(model, 1.4))
