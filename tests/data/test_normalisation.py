"""A column is normalised by its own spread, however small it is or far from zero; what cannot be is said."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

import snn_dt
from snn_dt.checkpoint import from_pretrained, save_checkpoint
from snn_dt.config import Config, ModelConfig
from snn_dt.data import WindowSampler
from snn_dt.learning.losses import action_loss
from snn_dt.models import build_model
from snn_dt.task import make_policy, task_shape
from tests.data.test_d4rl_source import write

N = 400
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=N)


def load(tmp_path, column, caplog=None, cache=True):
    """A dataset whose column 1 is `column` beside an ordinary one."""
    ordinary = NORMAL.astype(column.dtype) if column.dtype.kind == "f" else np.arange(N, dtype=column.dtype)
    rows = np.stack([ordinary, column], 1)
    path = tmp_path / "mine.hdf5"
    write(path, N, 2, 1, timeouts=np.arange(N) % 50 == 49, observations=rows)
    with caplog.at_level(logging.WARNING) if caplog else torch.no_grad():
        return snn_dt.load_dataset(f"d4rl:{path}", cache=cache)


def seen(trajectories):
    """What a model sees of column 1, every step."""
    states = WindowSampler(trajectories, 1, rtg_scale=1.0).at(np.arange(N)).states
    assert states.dtype == torch.float32
    return states[:, 0, 1].double().numpy()


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize(
    ("mean", "spread", "dtype"),
    [
        (0, 3e-7, "f4"), (0, 1e-12, "f4"), (1e-5, 3e-7, "f8"), (0, 1e20, "f4"), (100, 1e-2, "f4"),
        (5e6, 0.2, "f8"), (-5e6, 0.2, "f8"), (1e9, 0.01, "f8"), (1.7e9, 1, "i8"), (3e8, 20, "i4"),
        (2.0**40, 1e-2, "f8"),
    ],
)  # fmt: skip
def test_a_column_is_seen_with_mean_0_and_deviation_1(tmp_path, mean, spread, dtype, cache):
    column = (mean + spread * NORMAL * (10 if dtype[0] == "i" else 1)).astype(dtype)
    t = load(tmp_path, column, cache=cache)
    states = seen(t)
    assert abs(states.mean()) < 1e-2
    assert states.std() == pytest.approx(1, abs=1e-2)
    exact = column.astype(np.float64)
    np.testing.assert_allclose(states, (exact - exact.mean()) / exact.std(), atol=2e-2)


def test_numbers_stay_in_32_bits_where_that_is_enough(tmp_path):
    assert load(tmp_path, 100 + NORMAL).observations.dtype == np.float32
    assert load(tmp_path, 5e6 + NORMAL).observations.dtype == np.float64


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, -3e-7, 1e9, 5e6 + 0.1])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_constant_is_0_for_the_model_and_nothing_is_said(tmp_path, caplog, value, dtype):
    t = load(tmp_path, np.full(N, value, dtype), caplog)
    assert t.state_std[1] == 1
    assert np.abs(seen(t)).max() < 1e-6 * max(1, abs(value))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.float32(0.1) + np.float32(7.5e-9) * (np.arange(N) == 7), "column 1 taken as constant"),
        (1e-17 * NORMAL, "column 1 taken as constant"),
        ((5e6 + 0.2 * NORMAL).astype("f4"), "column 1 holds few different values"),
        (5e6 + 0.2 * NORMAL, "observations are kept in 64 bits"),
    ],
)
def test_what_rounding_has_left_of_a_column_is_said(tmp_path, caplog, column, expected):
    assert np.isfinite(seen(load(tmp_path, column, caplog))).all()
    assert expected in caplog.text


def test_a_policy_sees_what_training_saw(tmp_path):
    column = 5e6 + 0.2 * NORMAL
    t = load(tmp_path, column)
    config = Config(model=ModelConfig(d_model=8, n_layers=1, n_heads=1, context_length=2).resolved())
    task = task_shape(t, 1.0)
    policy = make_policy(build_model(config.model, task), t, config, 1.0)
    save_checkpoint(tmp_path / "saved", policy, config.model, task, {})
    given = []
    for one in (policy, from_pretrained(tmp_path / "saved")):
        one.reset(1.0)
        one.context.decide = lambda model, rtg, states: given.append(states) or torch.zeros(1, 1)
        one.act(np.array([NORMAL[3], column[3]]))
    trained = WindowSampler(t, 1, rtg_scale=1.0).at(np.array([3])).states[0]
    for states in given:
        assert states.dtype == torch.float32
        torch.testing.assert_close(states, trained, rtol=1e-5, atol=1e-5)


def test_an_action_without_a_range_gives_a_finite_loss_and_gradient():
    head = nn.Linear(3, 2)
    predictions = head(torch.randn(4, 5, 3))
    mask, half_range = torch.ones(4, 5, dtype=torch.bool), torch.tensor([1.0, 0.0])
    loss, _ = action_loss(predictions, torch.zeros(4, 5, 2), mask, half_range)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())
    torch.testing.assert_close(loss, predictions.square().mean())
