"""Models small enough to count by hand, in which all neurons fire in every simulation step or none ever does."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from snn_dt.config import ModelConfig
from snn_dt.energy import DecisionMeter
from snn_dt.models import TaskShape
from snn_dt.snn import SpikingLayer
from tests.conftest import make_batch, make_model, run

D, H, S, A, T, HIDDEN = 4, 2, 3, 2, 3, 8
CONFIG = ModelConfig(
    d_model=D, n_heads=H, n_layers=1, mlp_ratio=2, context_length=2, sim_steps=T, positions="none",
)  # fmt: skip
TASK = TaskShape(state_dim=S, action_dim=A, discrete=True, n_timesteps=9)


def model_of(**changes) -> nn.Module:
    return make_model(dataclasses.replace(CONFIG, **changes), TASK)


def all_neurons(model: nn.Module, fire: bool) -> nn.Module:
    """Replace what every neuron hands on by spikes in all steps, or in none."""
    for module in model.modules():
        if isinstance(module, SpikingLayer):
            module.register_forward_hook(lambda _, __, out: _replaced(out, float(fire)))
    return model


def _replaced(out, value: float):
    if isinstance(out, tuple):  # spikes and the membrane that is carried on
        return torch.full_like(out[0], value), *out[1:]
    return torch.full_like(out, value)


def counted(model: nn.Module, lengths=(2,), context: int | None = None, task: TaskShape = TASK) -> DecisionMeter:
    """A meter that has seen one forward on windows of `lengths` real steps, padded to `context`."""
    batch = make_batch(task, context or max(lengths), lengths)
    with DecisionMeter(model) as meter:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask)
    return meter
