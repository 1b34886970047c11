"""Operations counted by hand, for models small enough to do so, are what the meter counts."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from snn_dt.config import ModelConfig
from snn_dt.energy import NORM_ACS, NORM_MACS, TRANSCENDENTAL_MACS, Count, DecisionMeter, EnergyTable
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.rollout import evaluate, run_episodes
from snn_dt.models import TaskShape
from snn_dt.snn import Probe
from tests.conftest import make_batch, make_model, run
from tests.policies import countdown_policy

D, H, S, A, T, HIDDEN = 4, 2, 3, 2, 3, 8
CONFIG = ModelConfig(
    d_model=D, n_heads=H, n_layers=1, mlp_ratio=2, context_length=2, sim_steps=T, positions="learned",
)  # fmt: skip
CHOICES = TaskShape(state_dim=S, action_dim=A, discrete=True, n_timesteps=9)
NUMBERS = dataclasses.replace(CHOICES, discrete=False, action_low=(-1.0, -1.0), action_high=(1.0, 1.0))
FULL, PADDED = (2,), (1,)  # real steps of a window of two


def counted(model: nn.Module, task: TaskShape, lengths, context: int = 2) -> DecisionMeter:
    """A meter that has seen one forward."""
    batch = make_batch(task, context, lengths)
    with DecisionMeter(model) as meter:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask)
    return meter


def model_of(kind: str, task: TaskShape = CHOICES, **changes) -> nn.Module:
    return make_model(dataclasses.replace(CONFIG, kind=kind, **changes), task)


def drive(model: nn.Module, current: float) -> nn.Module:
    """Feed every neuron of the blocks a constant current, through the biases of the norms in front of them."""
    for name, module in model.blocks.named_modules():
        if isinstance(module, nn.LayerNorm):
            assert name
            nn.init.zeros_(module.weight)
            nn.init.constant_(module.bias, current)
    return model


def test_operations_are_priced_by_the_table():
    count = Count(macs=1, acs=20, neuron_updates=300, spikes=4000)
    assert EnergyTable().energy_pj(count) == pytest.approx(4.6 * 301 + 0.9 * 20)
    assert EnergyTable(mac_pj=1, ac_pj=2).energy_pj(count) == 341


def dense_by_hand(steps: int, task: TaskShape) -> Count:
    """A dense decision on `steps` real steps: all tokens are keys, the last one alone asks."""
    n = 3 * steps - 1  # tokens, without the last action
    embedding = steps * (1 * D + S * D + (0 if task.discrete else A * D))
    attention = D * D + n * D * 2 * D + 2 * n * D + D * D  # query, keys and values, scores and mix, out
    mlp = D * HIDDEN + HIDDEN * D
    head = D * A + (0 if task.discrete else A * (TRANSCENDENTAL_MACS + 1))
    normed = n * D + n * D + D + D  # embedding, before attention; before the MLP, before the head
    softmax = n * H * (TRANSCENDENTAL_MACS + 1)
    additions = n * D + n * H + HIDDEN + 2 * D  # positions, softmax sums, ReLU, residuals
    return Count(
        macs=embedding + attention + mlp + head + normed * NORM_MACS + softmax, acs=normed * NORM_ACS + additions
    )


def spiking_by_hand(steps: int, fires: bool) -> Count:
    """A spiking decision of which all neurons fire in every simulation step, or none ever does."""
    n = 3 * steps - 1
    neurons = 3 * n * D + 3 * D + HIDDEN  # in, keys, values; queries, out, MLP; hidden
    linears = 2 * n * D * D + D * D + D * D + D * HIDDEN + HIDDEN * D  # keys, values; queries; out; MLP
    products = n * D + n * D  # every spike of q adds a key to a score, every spike of v a weight to a mix
    normed = 4 * n * D + 4 * D + HIDDEN  # embedding, block, keys, values; queries, mix, MLP, head; hidden
    softmax = n * H * (TRANSCENDENTAL_MACS + 1)
    additions = n * D + n * H + 2 * D
    return Count(
        macs=steps * (D + S * D) + normed * NORM_MACS + softmax + D * A,
        acs=normed * NORM_ACS + additions + (T * (linears + products) if fires else 0),
        neuron_updates=T * neurons,
        spikes=T * neurons if fires else 0,
    )


@pytest.mark.parametrize("task", [CHOICES, NUMBERS], ids=["discrete", "continuous"])
@pytest.mark.parametrize("lengths", [FULL, PADDED], ids=["full", "padded"])
def test_a_dense_decision_costs_what_a_count_by_hand_says(task, lengths):
    assert counted(model_of("dense", task), task, lengths).total() == dense_by_hand(lengths[0], task)


@pytest.mark.parametrize("current", [10.0, -10.0], ids=["all fire", "all silent"])
@pytest.mark.parametrize("lengths", [FULL, PADDED], ids=["full", "padded"])
def test_a_spiking_decision_costs_what_a_count_by_hand_says(current, lengths):
    meter = counted(drive(model_of("snn_dt"), current), CHOICES, lengths)
    assert meter.total() == spiking_by_hand(lengths[0], fires=current > 0)
    assert set(meter.firing_rates().values()) == {float(current > 0)}


def test_the_counts_by_hand_are_these_numbers():
    assert dense_by_hand(2, CHOICES) == Count(macs=530, acs=142)
    assert spiking_by_hand(2, fires=True) == Count(macs=402, acs=1134, neuron_updates=240, spikes=240)


def test_silenced_spikes_leave_the_analogue_part_and_the_updates_of_the_neurons():
    silent = counted(model_of("snn_dt", v_threshold=1e9), CHOICES, FULL).total()
    assert silent == spiking_by_hand(2, fires=False)


def test_synaptic_operations_are_spikes_times_fan_out():
    model, batch = model_of("snn_dt", d_model=16, n_layers=2, context_length=6), make_batch(CHOICES, 6, (6, 4, 1))
    inputs: dict[str, torch.Tensor] = {}
    linears = {name: m for name, m in model.named_modules() if type(m).__name__ == "SpikeLinear"}
    for name, module in linears.items():
        module.register_forward_hook(lambda _, args, __, name=name: inputs.update({name: args[0]}))
    with DecisionMeter(model) as meter:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask)
    tokens = model.token_mask(batch.attention_mask)
    assert len(linears) == 2 * 6
    for name, module in linears.items():
        real = tokens if inputs[name].shape[1] == tokens.shape[1] else tokens[:, -1:]
        spikes = round(float(inputs[name][real].detach().sum()) * T)
        assert meter.by_module[name].acs == pytest.approx(spikes * module.out_features, rel=1e-6), name


@pytest.mark.parametrize("changes", [{}, {"coding": "spikes"}, {"tokens": "merged"}], ids=str)
def test_spikes_and_rates_are_those_that_a_probe_sees(changes):
    model = model_of("snn_dt", context_length=6, **changes)
    batch = make_batch(CHOICES, 6, (6, 4, 1))
    with DecisionMeter(model) as meter, Probe(model) as probe:
        run(model, batch, last_only=True)
        meter.count(batch.attention_mask)
        mask, tokens = batch.attention_mask, model.token_mask(batch.attention_mask)
        masks = {mask.shape[1]: mask, tokens.shape[1]: tokens, 1: mask[:, -1:]}
        spikes, rates = probe.spike_counts(masks), probe.firing_rates(masks)
    assert meter.total().spikes * 3 == pytest.approx(sum(spikes.values()), rel=1e-6)
    assert meter.firing_rates() == pytest.approx(rates, rel=1e-6)


def test_position_generators_and_their_synapses_are_counted():
    model = model_of("snn_dt", positions="phase", phase_generators=5)
    meter = counted(model, CHOICES, FULL)
    spikes = float(model.embedding.positions.spikes(make_batch(CHOICES, 2, FULL).timesteps).detach().sum())
    assert spikes > 0
    name = "embedding.positions"
    assert meter.by_module[name].spikes == spikes
    assert meter.by_module[name].macs == 2 * 5 * H * (1 + TRANSCENDENTAL_MACS)
    assert meter.by_module[f"{name}.projection"].acs == spikes * D
    sinusoidal = counted(model_of("snn_dt", positions="sinusoidal"), CHOICES, FULL)
    assert sinusoidal.by_module[name].macs == 2 * D * (1 + TRANSCENDENTAL_MACS)


KINDS = ["dense", "snn_dt", "snn_dt-spikes", "snn_dt_stream", "dsformer_tssa", "dsformer_pssa"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_rollout_reports_is_the_mean_over_its_decisions(kind):
    policy = countdown_policy(kind=kind)
    (row,) = evaluate(policy, [4.0], episodes=5, seed=0)
    meters = [run_episodes(policy, [make_environment(policy)], 4.0, 1, seed).meter for seed in range(5)]
    decisions = sum(meter.decisions for meter in meters)
    assert decisions == sum(3 + seed % 5 for seed in range(5))
    total = sum((meter.total() / (1 / meter.decisions) for meter in meters), Count()) / decisions
    assert row["spikes_per_decision"] == pytest.approx(total.spikes, rel=1e-4)
    assert row["macs_per_decision"] == pytest.approx(total.macs)
    assert row["acs_per_decision"] == pytest.approx(total.acs, rel=1e-4)
    assert row["energy_pj_per_decision"] == pytest.approx(EnergyTable().energy_pj(total), rel=1e-4)
    updates = sum(m.total().neuron_updates * m.decisions for m in meters)
    rate = total.spikes * decisions / updates if updates else 0.0
    assert row["firing_rate"] == pytest.approx(rate, rel=1e-4)


def test_a_model_without_spikes_reports_none():
    summary = counted(model_of("dense"), CHOICES, FULL).summary()
    assert summary["spikes_per_decision"] == summary["firing_rate"] == summary["neuron_updates_per_decision"] == 0
    assert summary["firing_rates"] == {}


def test_counting_changes_no_prediction_and_leaves_no_hook_behind():
    model, batch = model_of("snn_dt"), make_batch(CHOICES, 2, FULL)
    before = run(model, batch)
    with DecisionMeter(model):
        assert torch.equal(run(model, batch), before)
    with pytest.raises(ZeroDivisionError), DecisionMeter(model):
        1 / 0  # noqa: B018
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
