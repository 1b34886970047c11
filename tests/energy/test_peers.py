"""Another library counts the same linear layers the same: `pip install -c constraints.txt -e ".[peers]"`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from snn_dt.energy import TRANSCENDENTAL_MACS, DecisionMeter
from snn_dt.models.layers import ActionHead, SpikeLinear
from snn_dt.snn import LIFParameters, TimedLIF
from tests.conftest import CONTINUOUS, TINY, VARIANTS, make_batch, make_model, run

op_counter = pytest.importorskip("spikingjelly.activation_based.op_counter", reason="SpikingJelly is not installed")


def count_with_spikingjelly(counter, module: nn.Linear, x: torch.Tensor) -> int:
    """What SpikingJelly counts in a matrix product of the module's weight; a bias is no operation to it."""
    with op_counter.DispatchCounterMode([counter]):
        torch.mm(x.flatten(0, -2), module.weight.t())
    return counter.get_total()


@pytest.mark.parametrize("variant", ["snn_dt-spikes", "snn_dt-phase", "dsformer_tssa", "dsformer_pssa"])
def test_linear_layers_cost_what_spikingjelly_counts(variant):
    model = make_model(dataclasses.replace(TINY, **VARIANTS[variant]), CONTINUOUS)
    batch = make_batch(CONTINUOUS, 6, (6, 6))  # no pads, which SpikingJelly does not know
    inputs: dict[str, torch.Tensor] = {}
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    for name, module in linears.items():
        module.register_forward_hook(lambda _, args, __, name=name: inputs.update({name: args[0]}))
    with torch.no_grad(), DecisionMeter(model) as meter:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask)
    compared = 0
    for name, module in linears.items():
        own, x = meter.by_module[name], inputs[name]
        if isinstance(module, SpikeLinear):
            if bool(((x == 0) | (x == 1)).all()):  # a rate stands for spikes that SpikingJelly would have to see
                assert own.acs == count_with_spikingjelly(op_counter.SynOpCounter(), module, x), name
                compared += 1
        elif not isinstance(module, ActionHead):
            assert own.macs == count_with_spikingjelly(op_counter.MACCounter(), module, x), name
            compared += 1
    assert compared >= (4 if variant == "snn_dt-phase" else 14)


@pytest.mark.parametrize("learned", [False, True])
def test_all_synapses_of_dsformer_pssa_are_those_that_spikingjelly_counts(learned):
    """All but one: with a learned bias P, SpikingJelly counts each spike of `K * V` for later queries too.

    It does not know the causal mask. At its start P is 1 where the mask is true, which SpikingJelly takes for spikes.
    """
    model = make_model(dataclasses.replace(TINY, **VARIANTS["dsformer_pssa"]), CONTINUOUS)
    batch = make_batch(CONTINUOUS, 6, (6, 6))
    unmasked: dict[str, float] = {}  # spikes of K * V times queries

    def look(name: str):
        def without_mask(_, args, __) -> None:
            q, k, v, _ = args
            unmasked[name] = float((k * v).sum() * q.shape[2])  # [T, B, L, D]

        return without_mask

    for name, module in model.named_modules():
        if name.endswith(".attend"):
            if learned:
                nn.init.uniform_(module.bias, 0.5, 1.5)
            module.register_forward_hook(look(name))
    synapses, products = op_counter.SynOpCounter(), op_counter.MACCounter()
    with torch.no_grad():
        with op_counter.DispatchCounterMode([synapses, products]):
            run(model, batch)
        with DecisionMeter(model) as meter:
            run(model, batch)
            meter.count(batch.attention_mask)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    acs, macs = (sum(getattr(meter.by_module[name], kind) for name in layers) for kind in ("acs", "macs"))
    attention = sum(meter.by_module[name].acs for name in unmasked)
    assert 0 < attention < sum(unmasked.values())
    assert synapses.get_total() == acs + (sum(unmasked.values()) if learned else attention)
    # Bounded actions need tanh and a scale, which are no matrix product.
    decisions = batch.attention_mask.numel()
    assert macs - products.get_total() == decisions * CONTINUOUS.action_dim * (TRANSCENDENTAL_MACS + 1)


class Plain(nn.Module):
    """Two layers of weights and neurons, from spikes `[T, B, 1, D]` to spikes."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.context_length, self.state_dim, self.action_dim, self.discrete = 1, 12, 5, True
        self.first, self.second = SpikeLinear(12, 20, steps), SpikeLinear(20, 5, steps)
        self.hidden, self.out = TimedLIF(steps), TimedLIF(steps)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        return self.out(self.second(self.hidden(self.first(spikes))))

    def token_mask(self, attention_mask: torch.Tensor) -> torch.Tensor:
        return attention_mask


def test_a_plain_network_of_neurons_costs_what_spikingjelly_counts_for_its_own():
    from spikingjelly.activation_based import neuron

    torch.manual_seed(0)
    steps, rows, p = 6, 7, LIFParameters()
    model = Plain(steps).eval()
    nodes = [
        neuron.LIFNode(tau=p.tau_mem, decay_input=False, v_threshold=p.v_threshold, v_reset=p.v_rest, step_mode="m")
        for _ in range(2)
    ]
    theirs = nn.Sequential(nn.Linear(12, 20), nodes[0], nn.Linear(20, 5), nodes[1])
    for layer in (model.first, model.second):
        nn.init.normal_(layer.weight, std=0.7)  # more spikes
    theirs[0].load_state_dict(model.first.state_dict())
    theirs[2].load_state_dict(model.second.state_dict())
    spikes = (torch.rand(steps, rows, 1, 12) < 0.4).float()
    counter = op_counter.SynOpCounter()
    with torch.no_grad(), DecisionMeter(model) as meter:
        expected = model(spikes)
        meter.count(torch.ones(rows, 1, dtype=torch.bool))
        with op_counter.DispatchCounterMode([counter]):
            found = theirs(spikes)
    assert torch.equal(found, expected)
    assert 0 < float(found.mean()) < 1
    assert meter.by_module["first"].acs + meter.by_module["second"].acs == counter.get_total()
    assert meter.by_module["hidden"].neuron_updates == steps * rows * 20
