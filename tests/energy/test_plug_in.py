"""A kind of model that the meter has never heard of joins in: a stream, one token a decision, its past as state."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from snn_dt.config import BudgetConfig
from snn_dt.energy import Count, DecisionMeter, costs
from snn_dt.energy.costs import declared
from snn_dt.errors import ConfigError
from snn_dt.learning.budget import Budget
from snn_dt.models.layers import SpikeLinear
from snn_dt.snn import LIF

B, S, D, A = 3, 2, 4, 2


class Trace(nn.Module):
    """A decaying sum of spikes."""

    def forward(self, s: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        new = 0.5 * old + s[0]
        return new.unsqueeze(0), new


class Stream(nn.Module):
    """Tokens first, `[L, B, D]`, one step of every neuron per token."""

    streams = True
    state_dim, discrete, action_dim, context_length = S, True, A, 6

    def __init__(self) -> None:
        super().__init__()
        self.state, self.lif, self.linear = nn.Linear(S, D), LIF(v_threshold=0.2), SpikeLinear(D, D, 1)
        self.trace, self.head = Trace(), nn.Linear(D, A)

    def forward(self, states: Tensor, membrane=None, trace=None) -> tuple[Tensor, Tensor, Tensor]:
        s, membrane = self.lif(self.state(states.transpose(0, 1)), membrane)
        y, trace = self.trace(s, torch.zeros(len(states), D) if trace is None else trace)
        return self.head(self.linear(s) + y).transpose(0, 1), membrane, trace

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        return attention_mask


def test_a_rule_and_an_attribute_are_all_it_takes():
    assert declared(Trace()) is None
    costs(Trace)(lambda module, call: Count(macs=call.elements(call.output), acs=call.sum(call.inputs[0])))
    model, mask = Stream(), torch.ones(B, 1, dtype=torch.bool)
    spikes, membrane, trace = 0.0, None, None
    model.lif.register_forward_hook(lambda _, __, out: spiked.append(float(out[0].sum())))
    spiked: list[float] = []
    with torch.no_grad(), DecisionMeter(model) as meter:
        for step in range(1, 5):
            _, membrane, trace = model(torch.randn(B, 1, S), membrane, trace)
            meter.count(mask, steps=torch.full((B,), step))
    spikes = sum(spiked) / (4 * B)
    assert 0 < spikes < D
    total = meter.total()
    assert (total.macs, total.neuron_updates) == (S * D + D * A + D, D)
    assert (total.spikes, total.acs) == pytest.approx((spikes, spikes * D + spikes))
    summary = meter.summary()
    assert summary["context_steps"] == 2.5
    assert summary["state_bytes"] == 4 * (D + D + 1 + S + 1 + 1)  # membranes, traces, the inputs of the step
    assert meter.uncounted == []


def test_a_module_with_weights_and_no_rule_is_named():
    model = Stream()
    model.unheard = nn.Bilinear(2, 2, 2)
    with DecisionMeter(model) as meter:
        assert set(meter.uncounted) - {"trace"} == {"unheard"}  # Trace has its rule once the test above has run here


class Mixing(nn.Module):
    """An attention without weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.linear(x), -1)


def test_what_computes_without_weights_and_has_no_rule_is_named_too():
    model = Stream()
    model.wires = nn.Sequential(nn.Identity(), nn.Dropout())
    model.squash, model.mix = nn.Softmax(-1), nn.ModuleList([Mixing()])
    with pytest.warns(UserWarning, match=r"none for .*squash, mix\.0"):
        meter = DecisionMeter(model)
    assert meter.uncounted[-2:] == ["squash", "mix.0"]


def test_a_budget_refuses_a_model_that_it_cannot_count_all_of():
    model = Stream()
    model.mix = Mixing()
    with pytest.raises(ConfigError, match=r"train\.budget: expected .* found none for .*mix"):
        Budget(BudgetConfig(synaptic_operations=1.0), model)
