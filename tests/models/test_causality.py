"""No prediction sees what comes after it, and no pad reaches any prediction.

Inputs of one shape are compared bit for bit, those of two shapes in double precision and to rounding.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.conftest import doubled, make_batch, make_model, run

CONTEXT = 6


def changed(batch, field: str, rows: slice | torch.Tensor, steps) -> object:
    """The batch with other values in one field."""
    value = getattr(batch, field).clone()
    old = value[rows, steps]
    if field == "actions" and value.dtype == torch.int64:
        value[rows, steps] = (old + 1) % 3
    elif field == "timesteps":
        value[rows, steps] = old + 5
    else:
        value[rows, steps] = old + 3.0
    return dataclasses.replace(batch, **{field: value})


@pytest.mark.parametrize("t", range(CONTEXT))
def test_changing_an_action_leaves_every_prediction_up_to_its_own_step_bit_identical(config, task, t):
    model, batch = make_model(config, task), make_batch(task, lengths=(6, 6))
    before, after = run(model, batch), run(model, changed(batch, "actions", slice(None), t))
    assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    if t == 0:  # five later predictions: at least one of them spikes differently
        assert not torch.equal(before, after)


@pytest.mark.parametrize("field", ["rtg", "states", "timesteps"])
def test_changing_a_step_leaves_earlier_predictions_bit_identical_and_changes_a_later_one(config, task, field):
    model, batch = make_model(config, task), make_batch(task, lengths=(6, 6))
    t = 2
    before, after = run(model, batch), run(model, changed(batch, field, slice(None), t))
    assert torch.equal(before[:, :t], after[:, :t])
    knows = field != "timesteps" or config.resolved().positions != "none"
    assert torch.equal(before[:, t:], after[:, t:]) != knows


@pytest.mark.parametrize("field", ["rtg", "states", "actions", "timesteps"])
def test_changing_a_pad_changes_no_prediction_of_a_real_step(config, task, field):
    model, batch = make_model(config, task), make_batch(task)
    pads = ~batch.attention_mask
    value = getattr(batch, field).clone()
    value[pads] = 1 if value.dtype == torch.int64 else 1e3
    before = run(model, batch)
    after = run(model, dataclasses.replace(batch, **{field: value}))
    assert torch.equal(before[batch.attention_mask], after[batch.attention_mask])


def test_an_episode_shorter_than_the_context_is_predicted_as_without_pads(config, task):
    model, batch = make_model(config, task).double(), doubled(make_batch(task, lengths=(3, 3)))
    short = type(batch)(*(x[:, -3:] for x in batch.fields))
    torch.testing.assert_close(run(model, batch)[:, -3:], run(model, short), rtol=1e-9, atol=1e-9)


def test_the_last_prediction_alone_equals_the_last_of_all(config, task):
    model, batch = make_model(config, task).double(), doubled(make_batch(task))
    torch.testing.assert_close(run(model, batch)[:, -1:], run(model, batch, last_only=True), rtol=1e-9, atol=1e-9)


def test_the_causality_test_would_notice_a_model_without_a_mask(config, task, monkeypatch):
    monkeypatch.setattr(
        "snn_dt.models.decision_transformer.causal_mask",
        lambda real, *_: torch.ones(len(real), 1, real.shape[1], real.shape[1], dtype=torch.bool),
    )
    if config.kind == "snn_dt_stream":
        pytest.skip("a running sum needs no mask")
    model, batch = make_model(config, task), make_batch(task, lengths=(6,) * 16)
    before, after = run(model, batch), run(model, changed(batch, "actions", slice(None), slice(3, None)))
    assert not torch.equal(before[:, :4], after[:, :4])
