"""The rate head by hand: logits are rates over a temperature, actions the centre of mass of a population."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.energy import Count
from snn_dt.errors import ConfigError
from snn_dt.experimental.rsnn.rates import rate_cross_entropy
from snn_dt.learning.losses import action_loss
from snn_dt.models.heads import PopulationDecode
from tests.conftest import CONTINUOUS, DISCRETE, TINY, make_batch, make_model, run
from tests.energy.tiny import TASK, D, T, all_neurons, counted, model_of

RATE = dataclasses.replace(TINY, head="rate")
P = 3


def test_logits_are_mean_rates_over_the_temperature():
    decode = PopulationDecode(2, 4, 0.1, None)
    torch.testing.assert_close(decode(torch.tensor([1.0, 0.5, 0.0, 0.25])), torch.tensor([7.5, 1.25]))


def test_an_action_is_the_centre_of_mass_within_bounds_and_in_the_middle_when_all_are_silent():
    decode = PopulationDecode(3, 4, 0.1, (torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 10.0])))
    found = decode(torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0, 0.0]))  # (0 * .5 + 2 * .5) / 1, and silence
    torch.testing.assert_close(found, torch.tensor([1.0, 5.0]), rtol=2e-3, atol=0)
    extremes = decode(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(extremes, torch.tensor([-2.0, 10.0]), rtol=2e-3, atol=0)


def test_the_loss_of_a_model_is_the_cross_entropy_of_rates_with_gradient_p_minus_y_over_t():
    model, batch = make_model(RATE, DISCRETE), make_batch(DISCRETE, lengths=(6, 6))
    rates = []
    model.head.lif.register_forward_hook(lambda _, __, out: rates.append(out) or out.retain_grad())
    logits = model(*batch.fields)
    loss, _ = action_loss(logits, batch.actions, batch.attention_mask)
    loss.backward()
    mean = rates[0].unflatten(-1, (3, -1)).mean(-1)
    torch.testing.assert_close(loss, rate_cross_entropy(mean.flatten(0, 1), batch.actions.flatten(), 0.1))
    p = (mean / 0.1).softmax(-1) - torch.nn.functional.one_hot(batch.actions, 3)
    expected = p / 0.1 / 12  # mean over 12 steps
    torch.testing.assert_close(rates[0].grad.unflatten(-1, (3, -1)).sum(-1), expected, rtol=1e-4, atol=1e-6)


def test_predictions_stay_within_bounds_whatever_the_weights():
    model = make_model(RATE, CONTINUOUS)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(100)
    actions = run(model, make_batch(CONTINUOUS))
    assert (actions >= model.head.low).all()
    assert (actions <= model.head.high).all()
    assert actions.std() > 0.1


def test_actions_without_bounds_are_refused():
    with pytest.raises(ConfigError, match="expected linear for actions without finite bounds"):
        make_model(RATE, dataclasses.replace(CONTINUOUS, action_low=None, action_high=None))


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("fires", [True, False])
def test_the_energy_of_a_rate_head_by_hand(fires, bounded):
    bounds = {"discrete": False, "action_low": (-1.0,) * 2, "action_high": (1.0,) * 2} if bounded else {}
    task = dataclasses.replace(TASK, **bounds)
    model = all_neurons(make_model(model_of(head="rate", head_neurons=P).config, task), fires)
    meter = counted(model, task=task)
    cells = task.action_dim * P
    assert meter.by_module["head.synapses"] == Count(macs=D * cells)
    assert meter.by_module["head.lif"] == Count(neuron_updates=T * cells, spikes=T * cells * fires)
    adds = (2 if bounded else 1) * T * cells * fires
    assert meter.by_module["head.decode"] == Count(macs=task.action_dim, acs=adds)
    assert meter.uncounted == []
