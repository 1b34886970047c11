"""One decision of each kind of spiking model, counted by hand: two steps, one layer, the last token alone asks."""

from __future__ import annotations

import math

import pytest
import torch

from snn_dt.energy import NORM_ACS, NORM_MACS, TRANSCENDENTAL_MACS, Count, DecisionMeter, recurrent_baseline
from snn_dt.models.return_code import RETURN_UNITS
from tests.energy.tiny import HIDDEN, TASK, A, D, H, S, T, all_neurons, counted, model_of

STEPS, TOKENS = 2, 5  # interleaved: R s a R s
FIRES = pytest.mark.parametrize("fires", [True, False], ids=["all fire", "all silent"])


def embedding(tokens: int, merged: bool) -> Count:
    """Return-to-go and state through linear layers, actions looked up, a norm; the sums of merged tokens."""
    additions = (2 * STEPS - 1) * D if merged else 0  # R + s in both steps, + a in the second
    return Count(macs=STEPS * (D + S * D), acs=additions) + norm(tokens * D)


def norm(elements: int) -> Count:
    return Count(macs=NORM_MACS * elements, acs=NORM_ACS * elements)


def head() -> Count:
    return norm(D) + Count(macs=D * A)


def neurons(number: int, fires: bool) -> Count:
    return Count(neuron_updates=T * number, spikes=T * number * fires)


def synapses(number: int, fires: bool) -> Count:
    """Synapses of neurons that fire in each of T steps."""
    return Count(acs=T * number * fires)


def snn_dt(fires: bool, n: int = TOKENS) -> Count:
    """What all SNN-DT blocks with rates have in common: all but the mix of tokens and what follows it."""
    before = neurons(n * D + D + 2 * n * D, fires) + norm(n * D + D + 2 * n * D)
    projections = synapses(D * D + 2 * n * D * D, fires)
    mlp = neurons(D + HIDDEN, fires) + norm(D + HIDDEN) + synapses(D * HIDDEN + HIDDEN * D, fires)
    return embedding(n, merged=False) + before + projections + mlp + Count(acs=2 * D) + head()


def out(fires: bool, width: int = D) -> Count:
    """The neurons behind the mix, and the output projection."""
    return neurons(width, fires) + norm(width) + synapses(width * D, fires)


def products(fires: bool, n: int = TOKENS) -> Count:
    """Each spike of the one query adds n keys, each of n values adds one weight."""
    return synapses(n * D + n * D, fires)


def softmax(n: int = TOKENS) -> Count:
    return Count(macs=n * H * (TRANSCENDENTAL_MACS + 1), acs=n * H)


@FIRES
def test_softmax_attention_over_rates(fires):
    expected = snn_dt(fires) + products(fires) + softmax() + out(fires)
    assert counted(all_neurons(model_of(), fires)).total() == expected


@FIRES
def test_linear_attention_has_no_softmax_but_scales_its_outputs(fires):
    expected = snn_dt(fires) + products(fires) + Count(macs=D) + out(fires)
    assert counted(all_neurons(model_of(attention="linear"), fires)).total() == expected


@FIRES
def test_routing_sums_heads_through_gates_and_halves_what_follows(fires):
    gates = Count(macs=H * H + H * (TRANSCENDENTAL_MACS + 1))
    means_and_sum = Count(macs=D, acs=D)
    expected = snn_dt(fires) + products(fires) + softmax() + gates + means_and_sum + out(fires, width=D // H)
    assert counted(all_neurons(model_of(routing=True), fires)).total() == expected


@pytest.mark.parametrize("open_", [True, False], ids=["open", "closed"])
def test_a_phase_gate_costs_its_generators_and_a_closed_one_stops_the_products(open_):
    model = all_neurons(model_of(positions="phase", phase_input="gate", phase_generators=1), fire=True)
    gate = model.phase_gate
    torch.nn.init.zeros_(gate.cycles)
    torch.nn.init.constant_(gate.phase, math.pi / 2 if open_ else -math.pi / 2)
    generators = Count(macs=STEPS * H * (1 + TRANSCENDENTAL_MACS), spikes=STEPS * H * open_)
    expected = snn_dt(True) + generators + products(open_) + softmax() + out(True)
    assert counted(model).total() == expected


@FIRES
def test_spike_trains_are_normalised_in_every_step_and_averaged_once(fires):
    n = TOKENS
    everything = neurons(n * D + D + 2 * n * D + D + D + HIDDEN, fires)
    linears = synapses(D * D + 2 * n * D * D + D * D + D * HIDDEN + HIDDEN * D, fires)
    # Of the embedding and of the mix of counts once; of what spikes drive, in each of T steps.
    norms = norm(n * D + D) + norm(T * (D + 2 * n * D + D + HIDDEN))
    # The attention's branch in each step, the mean of the stream, the MLP's branch, which runs on the mean.
    additions = Count(acs=T * D + T * D + D)
    expected = embedding(n, merged=False) + everything + linears + norms + products(fires) + softmax() + additions
    assert counted(all_neurons(model_of(coding="spikes"), fires)).total() == expected + head()


def dsformer(fires: bool, n: int, merged: bool) -> Count:
    """A DSFormer block but for its mix of tokens: no norm is left in it, and it hands on trains."""
    everything = neurons(n * D + D + 2 * n * D + D + D + HIDDEN, fires)
    linears = synapses(D * D + 2 * n * D * D + D * D + D * HIDDEN + HIDDEN * D, fires)
    additions = Count(acs=3 * T * D)  # two branches, and the mean over simulation time
    return embedding(n, merged) + everything + linears + additions + head()


TOKENS_OF = pytest.mark.parametrize(
    ("tokens", "n"), [("merged", STEPS), ("interleaved", TOKENS)], ids=["merged", "interleaved"]
)


@FIRES
@TOKENS_OF
def test_tssa_adds_keys_and_scores_and_scales_each_output(fires, tokens, n):
    expected = dsformer(fires, n, tokens == "merged") + products(fires, n) + Count(macs=T * D)
    model = all_neurons(model_of(kind="dsformer_tssa", tokens=tokens), fires)
    assert counted(model).total() == expected


@FIRES
@TOKENS_OF
@pytest.mark.parametrize("window", [1, 3, 8])
def test_pssa_adds_a_bias_for_each_coincidence_in_the_window(fires, tokens, n, window):
    expected = dsformer(fires, n, tokens == "merged") + synapses(min(window, n) * D, fires)
    model = all_neurons(model_of(kind="dsformer_pssa", tokens=tokens, attention_window=window), fires)
    assert counted(model).total() == expected


def test_a_key_without_its_value_is_no_coincidence():
    model = all_neurons(model_of(kind="dsformer_pssa"), fire=True)
    model.blocks[0].attention.key[-1].register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    assert counted(model).by_module["blocks.0.attention.attend"] == Count()


@FIRES
def test_a_streaming_decision_costs_the_same_whatever_its_past(fires):
    model = all_neurons(model_of(kind="snn_dt_stream"), fires)
    width, hidden = D // H, HIDDEN
    analogue = Count(macs=RETURN_UNITS * (1 + TRANSCENDENTAL_MACS) + RETURN_UNITS * 2 * D + S * D) + norm(
        D
    )  # return code, gate, state
    analogue += Count(macs=D, acs=D) + Count(acs=D)  # gated and shifted; the action, which is known from the second on
    normed, residuals = norm(3 * D), Count(acs=2 * D)
    synapses_ = (D * 3 * D + D * D + 2 * D * hidden) * fires  # in one step, not in T
    attention = Count(macs=D * width + D, acs=(D * width + D * width) * fires)  # coincidences of k and v, rows for q
    n = 3 * D + 3 * D + hidden
    expected = analogue + normed + residuals + attention + head()
    expected += Count(acs=synapses_, neuron_updates=n, spikes=n * fires)
    state, mask = None, torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad(), DecisionMeter(model) as meter:
        for step in range(1, 9):
            now = torch.rand(1, 1, 1), torch.randn(1, 1, S), torch.zeros(1, 1, dtype=torch.int64)
            _, state = model(*now, None, mask, state=state, carry=True, last_only=True)
            before = meter.total() * meter.decisions
            meter.count(mask, steps=torch.tensor([step]))
            own = meter.total() * meter.decisions
            assert own == before + expected if step > 1 else own + Count(acs=D) == expected
    summary = meter.summary()
    assert summary["state_bytes"] == 4 * (n + H * width * width) + 4 * (1 + S + 1 + 1)
    assert summary["context_steps"] == (1 + 2 * 7) / 8  # dense models would look back on two steps


def test_the_recurrent_twin_multiplies_where_a_streaming_model_accumulates_the_spikes_of_all_its_neurons():
    neurons = 3 * D + 3 * D + HIDDEN
    counts = {}
    for fire in (True, False):
        model = all_neurons(model_of(kind="snn_dt_stream"), fire)
        state, mask = model.rest(1), torch.ones(1, 1, dtype=torch.bool)
        state["begun"].fill_(True)
        with torch.no_grad(), DecisionMeter(model) as meter:
            model.step(torch.rand(1, 1), torch.randn(1, S), state)
            meter.count(mask)
        counts[fire] = meter.total()
    twin = recurrent_baseline(model.config, TASK)
    synapses = counts[True].acs - counts[False].acs
    assert synapses > 100
    assert twin.macs == counts[True].macs + synapses + TRANSCENDENTAL_MACS * neurons
    assert (twin.acs, twin.spikes, twin.neuron_updates) == (counts[False].acs, 0, 0)


def test_the_counts_by_hand_are_these_numbers():
    assert dsformer(True, STEPS, merged=True) + products(True, STEPS) + Count(macs=T * D) == Count(
        macs=88, acs=600, neuron_updates=132, spikes=132
    )
