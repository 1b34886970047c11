"""The gradient of a batch asks the device for no value: it can be recorded as a CUDA graph, and nothing waits."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from snn_dt.config import BudgetConfig, TrainConfig
from snn_dt.models.norms import PTBN
from snn_dt.training.gradient import make_gradient
from snn_dt.training.state import TrainingState, make_optimizer
from tests.conftest import make_batch, make_model

LOOKS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default}


class NoLook(TorchDispatchMode):
    """Fails where a tensor's values are needed on the host."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        assert function not in LOOKS, f"{function} waits for the device"
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("limits", [{}, {"synaptic_operations": 10.0, "mean_firing_rate": 0.01}], ids=["", "budget"])
def test_nothing_is_asked_of_the_device(config, task, limits, monkeypatch):
    if limits and config.kind == "dense":
        pytest.skip("it has no spikes")
    monkeypatch.setattr(PTBN, "_blends", lambda *_: True)  # as on a GPU; a CPU looks whether it still has to
    model = make_model(config, task).train()
    train = TrainConfig(budget=BudgetConfig(**limits))
    gradient = make_gradient(train, model, TrainingState(make_optimizer(train, model)))
    batch = make_batch(task, 6, (6, 4))
    progress = torch.tensor(0.5, dtype=torch.float64)
    with NoLook():
        metrics, gradients = gradient(*batch.fields, batch.attention_mask.sum(), progress)
    assert all(value.isfinite() for value in metrics.values())
    assert len(metrics) == 2 + (1 + len(limits)) * bool(limits)
    assert any(grad is not None and grad.any() for grad in gradients)
