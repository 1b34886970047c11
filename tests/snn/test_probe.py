"""The probe: rates per layer, masked by real tokens, with gradients."""

import pytest
import torch
from torch import nn

from snn_dt.snn import LIF, Probe, RateLIF


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.rate, self.train_, self.scale = RateLIF(4), LIF(), nn.Parameter(torch.tensor(1.0))

    def forward(self, current):
        rate = self.rate(self.scale * current)
        spikes, _ = self.train_(current.expand(3, *current.shape))
        return rate + spikes.mean(0)


@pytest.fixture
def current():
    return 2 * torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


def test_rates_are_those_of_each_layer_and_counts_are_their_spikes(current):
    model = Model()
    with Probe(model) as probe:
        model(current)
    rate, spikes = model.rate(current), model.train_(current.expand(3, 2, 5, 6))[0]
    assert torch.equal(probe.rates["rate"], rate)
    assert probe.firing_rates() == pytest.approx({"rate": rate.mean().item(), "train_": spikes.mean().item()})
    assert probe.spike_counts() == {"rate": 4 * rate.sum().item(), "train_": spikes.sum().item()}


def test_masked_tokens_do_not_count(current):
    model, mask = Model(), torch.tensor([[False, False, True, True, True], [False, True, True, True, True]])
    with Probe(model) as probe:
        model(current)
        clean = probe.firing_rates(mask), probe.spike_counts(mask)
        model(torch.where(mask[..., None], current, 100.0))
        assert (probe.firing_rates(mask), probe.spike_counts({5: mask})) == clean
        assert probe.firing_rates({7: mask[:, :1]}) == probe.firing_rates() != clean[0]
    assert clean[0]["rate"] == pytest.approx(model.rate(current)[mask].mean().item())


def test_rates_carry_gradients_and_the_hooks_leave_with_the_context(current):
    model = Model()
    with Probe(model) as probe:
        model(current)
    rates = probe.rates["rate"]
    rates.mean().backward()
    assert model.scale.grad.abs() > 0
    model(3 * current)
    assert probe.rates["rate"] is rates


def test_only_the_last_forward_counts_and_a_layer_run_twice_is_recorded_twice(current):
    layer = RateLIF(2)
    model = nn.Sequential(layer, layer)
    with Probe(model) as probe:
        model(current)
        model(current)
    assert list(probe.rates) == ["0", "0#2"]
