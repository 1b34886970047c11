"""Nothing is left out, nothing is counted twice, and what is silent costs nothing but its analogue part."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from snn_dt.energy import LOIHI, Count, DecisionMeter, by_part, role_of
from snn_dt.models.norms import PTBN
from snn_dt.snn import SpikingLayer
from tests.conftest import CONTINUOUS, TINY, VARIANTS, make_batch, make_model, run
from tests.energy.tiny import all_neurons, counted
from tests.models.folding import fold_norms

EVERY_KIND = pytest.mark.parametrize("variant", VARIANTS)


def variant_model(variant: str, **changes) -> nn.Module:
    return make_model(dataclasses.replace(TINY, **VARIANTS[variant], **changes), CONTINUOUS)


def operations(count: Count) -> list[float]:
    return list(dataclasses.astuple(count))


@EVERY_KIND
def test_no_layer_with_weights_or_neurons_is_left_out(variant):
    model = variant_model(variant)
    meter = counted(model, (6, 4), task=CONTINUOUS)
    assert meter.uncounted == []
    within = {
        part for m in model.modules() if isinstance(m, SpikingLayer | PTBN) for part in m.modules() if part is not m
    }
    working = {
        name
        for name, m in model.named_modules()
        if isinstance(m, SpikingLayer)
        or (m not in within and not isinstance(m, nn.Embedding | PTBN) and list(m.parameters(recurse=False)))
    }
    assert {name for name in working if not any(operations(meter.by_module[name]))} == set()


@EVERY_KIND
def test_a_silenced_model_costs_its_analogue_part_and_the_updates_of_its_neurons(variant):
    model = variant_model(variant)
    analogue = {n for n, m in model.named_modules() if role_of(m) != "synapses"}
    meter = counted(all_neurons(model, fire=False), (6, 4), task=CONTINUOUS)
    total, spikes_of_positions = meter.total(), meter.by_module["embedding.positions"].spikes
    assert all(rate == 0 for rate in meter.firing_rates().values())
    for name, module in model.named_modules():
        if role_of(module) == "synapses" and name != "embedding.positions.projection":
            assert meter.by_module[name].acs == 0, name
    if "phase" not in variant:
        assert total.spikes == spikes_of_positions == 0
    kept = sum((c for n, c in meter.by_module.items() if n in analogue or n.rpartition(".")[0] in analogue), Count())
    assert kept.neuron_updates / meter.decisions == total.neuron_updates


@EVERY_KIND
def test_pads_cost_nothing_in_any_layer(variant):
    model, batch = variant_model(variant), make_batch(CONTINUOUS, 6, (3, 3))
    short = type(batch)(*(x[:, -3:] for x in batch.fields))
    meters = []
    for each in (batch, short):
        with DecisionMeter(model) as meter:
            run(model, each, last_only=True)
            meter.count(each.attention_mask)
        meters.append(meter.summary())
    assert meters[0]["by_module"].keys() == meters[1]["by_module"].keys()
    for name, row in meters[0]["by_module"].items():
        assert row == pytest.approx(meters[1]["by_module"][name], rel=1e-6), name


@EVERY_KIND
def test_a_batch_costs_the_mean_of_its_decisions(variant):
    model, lengths = variant_model(variant), (6, 4, 1)
    together, batch, alone = counted(model, lengths, task=CONTINUOUS), make_batch(CONTINUOUS, 6, lengths), []
    for row in range(3):
        one = type(batch)(*(x[row : row + 1] for x in batch.fields))
        with DecisionMeter(model) as meter:
            run(model, one, last_only=True)
            meter.count(one.attention_mask)
        alone.append(meter)
    mean = sum((meter.total() for meter in alone), Count()) / 3
    assert operations(together.total()) == pytest.approx(operations(mean), rel=1e-5)
    rows = [meter.summary() for meter in (together, *alone)]
    for name in ("state_bytes", "memory_bytes_per_decision", "context_steps"):
        assert rows[0][name] == pytest.approx(sum(row[name] for row in rows[1:]) / 3), name


@EVERY_KIND
def test_modules_and_parts_add_up_to_the_whole(variant):
    summary = counted(variant_model(variant), (6, 4), task=CONTINUOUS).summary()
    modules = summary["by_module"]
    totals = {"macs": "macs_per_decision", "acs": "acs_per_decision", "energy_pj": "energy_pj_per_decision"}
    totals |= {"spikes": "spikes_per_decision", "neuron_updates": "neuron_updates_per_decision"}
    totals |= {"memory_bytes": "memory_bytes_per_decision", "state_bytes": "state_bytes"}
    totals |= {"parameter_bytes": "parameter_bytes"}
    for key, name in totals.items():
        for rows in (modules, by_part(modules)):
            assert math.fsum(row[key] for row in rows.values()) == pytest.approx(summary[name]), key
    branches = ("",) if variant == "snn_dt_stream" else (".attention", ".mlp")
    blocks = {f"blocks.{i}{branch}" for i in range(2) for branch in branches}
    if "spikes" in variant:
        blocks.add("blocks.1")  # the mean of its stream
    assert set(by_part(modules)) - {"phase_gate", "time_mean"} == {
        "embedding",
        "inputs",
        "norm",
        "head",
        *blocks,
    }


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("dsformer")])
def test_a_norm_costs_what_it_costs_folded_away(variant):
    model = variant_model(variant)
    folded = fold_norms(model)
    before, after = (counted(m, (6, 4), task=CONTINUOUS).summary() for m in (model, folded))
    for name in ("macs_per_decision", "neuron_updates_per_decision", "parameter_bytes", "state_bytes"):
        assert before[name] == after[name], name
    assert before["acs_per_decision"] == pytest.approx(after["acs_per_decision"], rel=1e-3)  # a spike may round away
    assert before["parameter_bytes"] == 4 * sum(p.numel() for p in folded.parameters())


def test_the_published_example_on_loihi():
    # arXiv 2510.24461: 18 inputs, layers of 256, 128 and 4, an activation sparsity of 0.79; every synapse is charged.
    synapses, neurons = 18 * 256 + 256 * 128 + 128 * 4, 256 + 128
    count = Count(acs=synapses, neuron_updates=neurons, spikes=(1 - 0.79) * neurons)
    assert LOIHI.energy_pj(count) == pytest.approx(97416.7, abs=0.05)


def test_layers_that_tell_nothing_are_flagged():
    model = variant_model("snn_dt")
    silent, busy = model.blocks[0].mlp[2], model.blocks[1].attention.lif_in
    silent.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    busy.register_forward_hook(lambda _, __, out: torch.ones_like(out))
    flags = counted(model, (6, 4), task=CONTINUOUS).summary()["layer_flags"]
    assert flags == {"blocks.0.mlp.2": "dead", "blocks.1.attention.lif_in": "saturated"}
