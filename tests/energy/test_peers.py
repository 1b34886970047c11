"""Another library counts the same linear layers the same: `pip install -c constraints.txt -e ".[peers]"`."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from snn_dt.energy import DecisionMeter
from snn_dt.models.layers import ActionHead, SpikeLinear
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
