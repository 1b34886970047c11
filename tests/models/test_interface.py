"""Both models satisfy the contract of a model, in types and in what they do."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch

from snn_dt.models import build_model
from snn_dt.models.interface import SequenceModel, StreamingModel, is_streaming
from tests.conftest import make_batch, make_model


def members(protocol) -> set[str]:
    found = {name for base in protocol.__mro__ for name in getattr(base, "__annotations__", {}) if name[0] != "_"}
    return found | {name for name in dir(protocol) if name[0] != "_"}


def test_every_model_has_all_members_of_the_contract(config, task):
    model = make_model(config, task)
    expected = members(StreamingModel if config.kind == "snn_dt_stream" else SequenceModel)
    assert expected >= {"config", "task", "state_dim", "action_dim", "discrete", "context_length", "streams", "forward"}
    assert not [name for name in sorted(expected) if not hasattr(model, name)]
    assert model.streams == is_streaming(model) == (config.kind == "snn_dt_stream")
    assert (model.state_dim, model.action_dim, model.discrete) == (task.state_dim, task.action_dim, task.discrete)
    assert model.task == task
    assert model.config == config.resolved()
    contract = list(inspect.signature(SequenceModel.forward).parameters)
    assert list(inspect.signature(type(model).forward).parameters)[: len(contract)] == contract


@torch.no_grad()
def test_the_last_prediction_is_that_of_the_whole_window(config, task):
    model, batch = make_model(config, task), make_batch(task)
    whole, last = model(*batch.fields), model(*batch.fields, last_only=True)
    torch.testing.assert_close(last, whole[:, -1:], rtol=1e-5, atol=1e-5)
    valid = model.token_mask(batch.attention_mask)
    assert valid.dtype == torch.bool
    assert valid.shape[1] in (6, 3 * 6 - 1)  # one token a step, or three without the last action


def test_a_model_without_the_attribute_has_a_window():
    assert not is_streaming(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("mode", [True, False])
def test_training_mode_is_torchs_own(config, task, mode):
    model = build_model(dataclasses.replace(config, dropout=0.5), task)
    assert "train" not in vars(type(model))
    assert all(m.training == mode for m in model.train(mode).modules())
