"""The action loss against a loop over steps; pads never count."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from snn_dt.learning.losses import action_loss, loss_of
from tests.conftest import CONTINUOUS, DISCRETE, TINY, make_batch, make_model, run

LENGTHS = (6, 3, 1)


def batch_and_predictions(task):
    batch = make_batch(task, lengths=LENGTHS, seed=1)
    predictions = torch.randn(3, 6, task.action_dim, generator=torch.Generator().manual_seed(2))
    return batch, predictions


def real_steps():
    return [(b, k) for b, n in enumerate(LENGTHS) for k in range(6 - n, 6)]


def test_discrete_loss_is_the_mean_cross_entropy_of_the_real_steps():
    batch, predictions = batch_and_predictions(DISCRETE)
    loss, metrics = action_loss(predictions, batch.actions, batch.attention_mask)
    losses, hits = [], []
    for b, k in real_steps():
        logits, action = predictions[b, k].tolist(), int(batch.actions[b, k])
        losses.append(math.log(sum(math.exp(x) for x in logits)) - logits[action])
        hits.append(max(range(3), key=logits.__getitem__) == action)
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert float(metrics["loss"]) == float(loss)
    assert float(metrics["accuracy"]) == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize("half_range", [None, (2.0, 0.5)])
def test_continuous_loss_is_the_mean_squared_error_of_the_real_steps_in_half_ranges(half_range):
    batch, predictions = batch_and_predictions(CONTINUOUS)
    units = None if half_range is None else torch.tensor(half_range)
    loss, metrics = action_loss(predictions, batch.actions, batch.attention_mask, units)
    errors = []
    for b, k in real_steps():
        differences = (predictions[b, k] - batch.actions[b, k]).tolist()
        errors.append(sum((d / u) ** 2 for d, u in zip(differences, half_range or (1.0, 1.0), strict=True)) / 2)
    assert float(loss) == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert float(metrics["action_error"]) == pytest.approx(float(loss) ** 0.5, rel=1e-5)


def test_a_dimension_weighs_the_same_whatever_its_width():
    mask = torch.ones(1, 1, dtype=torch.bool)
    actions = torch.zeros(1, 1, 2)
    half_range = torch.tensor([100.0, 0.01])
    losses = [
        float(action_loss(torch.tensor([[error]]), actions, mask, half_range)[0]) for error in ([50.0, 0], [0, 0.005])
    ]
    assert losses[0] == pytest.approx(losses[1]) == pytest.approx(0.125)


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("value", [1e4, float("inf"), float("nan")])
def test_whatever_is_predicted_for_a_pad_does_not_count(task, value):
    batch, predictions = batch_and_predictions(task)
    expected, expected_metrics = action_loss(predictions, batch.actions, batch.attention_mask)
    spoilt = predictions.masked_fill(~batch.attention_mask[..., None], value)
    loss, metrics = action_loss(spoilt, batch.actions, batch.attention_mask)
    assert torch.equal(loss, expected)
    assert all(torch.equal(metrics[name], expected_metrics[name]) for name in metrics)


@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
def test_real_steps_get_a_gradient_and_pads_get_none(task):
    batch, predictions = batch_and_predictions(task)
    action_loss(predictions.requires_grad_(), batch.actions, batch.attention_mask)[0].backward()
    assert (predictions.grad[~batch.attention_mask] == 0).all()
    assert (predictions.grad[batch.attention_mask] != 0).all()


def test_metrics_carry_no_graph():
    for task in (DISCRETE, CONTINUOUS):
        batch, predictions = batch_and_predictions(task)
        loss, metrics = action_loss(predictions.requires_grad_(), batch.actions, batch.attention_mask)
        assert loss.requires_grad
        assert not any(value.requires_grad for value in metrics.values())


def test_the_likelihood_is_that_of_a_gaussian_with_a_bounded_deviation_and_acting_has_none():
    batch = make_batch(CONTINUOUS, lengths=LENGTHS, seed=1)
    model = make_model(dataclasses.replace(TINY, kind="dense", loss="likelihood"), CONTINUOUS).train()
    with torch.no_grad():
        model.spread.bias.copy_(torch.tensor([-100.0, 0.5]))  # the first one is cut off at 0.03
    predictions = run(model, batch)
    log_sigma = model.spread._latest.detach()
    assert log_sigma[..., 0] == pytest.approx(math.log(0.03))
    loss, metrics = loss_of(model, batch, predictions)
    error = (predictions - batch.actions) / torch.tensor([2.0, 2.0])
    expected = -torch.distributions.Normal(0, log_sigma.exp()).log_prob(error) - math.log(2 * math.pi) / 2
    steps = [expected[b, k].mean() for b, k in real_steps()]
    assert loss.item() == pytest.approx(torch.stack(steps).mean().item(), rel=1e-5)
    assert metrics["loss"].item() == pytest.approx(loss.item())
    model.eval()
    loss, _ = loss_of(model, batch, run(model, batch))
    squared, _ = action_loss(predictions, batch.actions, batch.attention_mask, torch.tensor([2.0, 2.0]))
    assert loss.item() == pytest.approx(squared.item(), rel=1e-4)
