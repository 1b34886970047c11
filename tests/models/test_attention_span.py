"""A bounded attention span: the band of the mask, and decisions that compute new tokens only, against kept keys."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.config import ModelConfig
from snn_dt.energy import HOROWITZ, DecisionMeter
from snn_dt.errors import ConfigError
from snn_dt.evaluation.decide import make_decider
from snn_dt.model_config import model_checks
from snn_dt.models.tokens import causal_mask
from snn_dt.snn import RateLIF, TimedLIF, cpp
from snn_dt.snn.backends import backend_for
from snn_dt.snn.record import record
from snn_dt.strict import check_all
from tests.conftest import CONTINUOUS, DISCRETE, TINY, VARIANTS, doubled, make_batch, make_model, run
from tests.tolerance import assert_mostly_equal

SPAN = 3
needs_compiler = pytest.mark.skipif(backend_for("cpu") != "cpp", reason="no C++ compiler, or another kernel is set")
KINDS = {
    name: values
    for name, values in VARIANTS.items()
    if values["kind"] != "snn_dt_stream" and "attention_span" not in values
}


def spanned(name: str, task, **options):
    return make_model(dataclasses.replace(TINY, attention_span=SPAN, **KINDS[name], **options), task)


def step_by_step(model, batch) -> torch.Tensor:
    """Return the decisions `[B, K, A]` of rows that all begin at the first step of the batch."""
    state, predictions = model.rest(len(batch.states)), []
    for t in range(batch.states.shape[1]):
        prediction, state = model.step(batch.rtg[:, t], batch.states[:, t], state)
        state["action"] = batch.actions[:, t]
        predictions.append(prediction)
    return torch.stack(predictions, 1)


def episode(task, steps: int, rows: int = 1):
    batch = make_batch(task, steps, (steps,) * rows)
    return dataclasses.replace(batch, timesteps=torch.arange(steps).expand(rows, steps))


@pytest.mark.parametrize("name", KINDS)
def test_kept_keys_and_values_give_the_decisions_of_one_long_sequence_over_1000_steps(name):
    """float64: predictions to 1e-12, spikes identical."""
    task = DISCRETE if name in ("snn_dt", "dense-merged") else CONTINUOUS
    model, batch = spanned(name, task).double(), doubled(episode(task, 1000))
    with torch.no_grad():
        whole, steps = run(model, batch), step_by_step(model, batch)
    torch.testing.assert_close(steps, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["snn_dt", "snn_dt-spikes", "dsformer_pssa-interleaved"])
def test_every_spike_of_a_cached_decision_is_that_of_the_long_sequence(name):
    model, batch = spanned(name, CONTINUOUS).double(), doubled(episode(CONTINUOUS, 60))
    # The neurons of the first block see all new tokens, those behind its attention too.
    layers = {n: m for n, m in model.blocks[0].named_modules() if isinstance(m, RateLIF | TimedLIF)}
    with torch.no_grad(), record(model, layers) as recording:
        run(model, batch)
        whole = {call.name: call.output for call in recording.calls}
        state = model.rest(1)
        for t in range(60):
            _, state = model.step(batch.rtg[:, t], batch.states[:, t], state)
            state["action"] = batch.actions[:, t]
            for call in recording.calls:
                own = whole[call.name][..., max(3 * t - 1, 0) : 3 * t + 2, :]
                assert torch.equal(call.output[..., -own.shape[-2] :, :], own), (call.name, t)


def test_rows_at_different_steps_of_their_episodes_decide_as_if_alone():
    for name in ("dense", "snn_dt-merged-spikes-linear", "dsformer_pssa"):
        model, batch = spanned(name, DISCRETE).double(), doubled(episode(DISCRETE, 30, rows=3))
        state, begin, found = model.rest(3), torch.tensor([0, 7, 11]), []
        for t in range(30):
            for part in state.values():
                part[begin == t] = 0  # a row of zeros begins a new episode
            prediction, state = model.step(batch.rtg[:, t], batch.states[:, t], state)
            state["action"] = batch.actions[:, t]
            found.append(prediction)
        for row, first in enumerate(begin.tolist()):
            alone = dataclasses.replace(
                type(batch)(*(x[row : row + 1, first:] for x in batch.fields)),
                timesteps=torch.arange(30 - first)[None],
            )
            expected = run(model, alone)[0]
            torch.testing.assert_close(torch.stack(found)[first:, row], expected, rtol=0, atol=1e-12)


def test_a_token_attends_to_the_last_steps_only_its_own_included():
    mask = causal_mask(torch.ones(1, 8, dtype=torch.bool), span=2, per_step=3)[0, 0]
    expected = """10000000 11000000 11100000 11110000 11111000 11111100 00011110 00011111"""
    assert mask.int().tolist() == [[int(x) for x in row] for row in expected.split()]
    assert torch.equal(
        causal_mask(torch.ones(1, 8, dtype=torch.bool), span=8, per_step=3), causal_mask(torch.ones(1, 8).bool())
    )


@pytest.mark.parametrize("name", ["dense", "snn_dt", "dsformer_tssa", "dsformer_pssa"])
def test_a_layer_sees_no_step_before_its_span(name):
    """The input of step 0 reaches step t through n layers if t <= n (S - 1), and no later step."""
    model, batch = spanned(name, CONTINUOUS), episode(CONTINUOUS, 12)
    other = dataclasses.replace(batch, states=batch.states.clone(), rtg=batch.rtg.clone())
    other.states[:, 0] += 3
    other.rtg[:, 0] = 0
    with torch.no_grad():
        same = (run(model, batch) == run(model, other)).all(-1)[0]
    reach = TINY.n_layers * (SPAN - 1)
    assert same[reach + 1 :].all()
    assert not same[0]


def test_a_span_is_checked_against_the_window_and_the_kind():
    for values, message in (
        ({"attention_span": 4}, r"model.context_length: expected at least 2 attention_span = 8, found 6"),
        ({"attention_span": 0}, r"model.attention_span: expected null or in \[1,"),
        ({"attention_span": 3, "kind": "snn_dt_stream"}, r"model.attention_span: expected null for snn_dt_stream"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_all(model_checks(dataclasses.replace(TINY, **values)))
    check_all(model_checks(dataclasses.replace(TINY, attention_span=3)))


def test_without_a_span_nothing_changes():
    assert ModelConfig().attention_span is None
    assert make_model(TINY, DISCRETE).attention_span is None


@pytest.mark.parametrize("kind", ["dense", "snn_dt"])
def test_a_decision_costs_a_twelfth_of_that_of_a_recomputed_window(kind):
    config = ModelConfig(kind=kind, d_model=128, n_layers=3, n_heads=1, context_length=40, attention_span=20)
    model, batch = make_model(config, CONTINUOUS), episode(CONTINUOUS, 30)
    whole = make_model(dataclasses.replace(config, attention_span=None, context_length=20), CONTINUOUS)
    window = type(batch)(*(x[:, -20:] for x in batch.fields))
    state = model.rest(1)
    with torch.no_grad(), DecisionMeter(model) as own, DecisionMeter(whole) as other:
        for t in range(30):
            _, state = model.step(batch.rtg[:, t], batch.states[:, t], state)
            state["action"] = batch.actions[:, t]
        own.count(window.attention_mask[:, -1:], torch.tensor([30]))
        run(whole, window, last_only=True)
        other.count(window.attention_mask)
    counts = [HOROWITZ.energy_pj(meter.total()) for meter in (own, other)]
    assert counts[0] <= counts[1] / 12
    assert own.summary()["context_steps"] == 20


def test_a_dense_decision_is_counted_by_hand():
    """Three tokens through two layers, but for the last layer's two that are keys and values only."""
    model, batch = spanned("dense", CONTINUOUS), episode(CONTINUOUS, 9)
    state, meters = model.rest(1), []
    for t in range(9):
        with DecisionMeter(model) as meter:
            _, state = model.step(batch.rtg[:, t], batch.states[:, t], state)
            state["action"] = batch.actions[:, t]
            meter.count(torch.ones(1, 1, dtype=torch.bool), torch.tensor([t + 1]))
        meters.append(meter.by_module)
    d, first, later = 16, meters[0], meters[-1]
    assert later["blocks.0.attention.key_value"].macs == 3 * 2 * d * d
    assert first["blocks.0.attention.key_value"].macs == 2 * 2 * d * d, "no action comes before the first step"
    assert later["blocks.1.attention.query"].macs == later["blocks.1.attention.out"].macs == d * d
    assert later["blocks.1.attention.key_value"].macs == 3 * 2 * d * d
    # a_(t-1) attends to three whole steps, R_t and s_t to two and themselves.
    assert later["blocks.0.attention.attend"].macs == 2 * d * (9 + (6 + 1) + (6 + 2))
    assert later["blocks.1.attention.attend"].macs == 2 * d * (6 + 2)
    assert later["embedding.rtg"].macs == d
    assert later["embedding.action"].macs == 2 * d
    assert later["embedding"].acs == 3 * d
    assert later["embedding.norm"].macs == 3 * 3 * d


@needs_compiler
@pytest.mark.parametrize(
    "name", ["dense", "snn_dt", "snn_dt-routing", "dense-merged", "snn_dt-sinusoidal", "snn_dt-rate-head"]
)
@pytest.mark.parametrize("task", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
@torch.inference_mode()
def test_one_call_decides_as_the_modules_do_for_rows_of_any_age(name, task):
    model = spanned(name, task)
    decide, batch, runs = make_decider(model, "cpp"), episode(task, 40, rows=5), []
    own, other, begin = model.rest(5), model.rest(5), torch.tensor([0, 0, 3, 11, 28])
    for t in range(40):
        for part in (*own.values(), *other.values()):
            part[begin == t] = 0
        found, own = decide(batch.rtg[:, t], batch.states[:, t], own)
        expected, other = model.step(batch.rtg[:, t], batch.states[:, t], other)
        own["action"] = batch.actions[:, t].clone()
        other["action"] = batch.actions[:, t].clone()
        runs.append((found, expected))
    assert_mostly_equal(torch.stack([x for x, _ in runs]), torch.stack([x for _, x in runs]), rtol=0, atol=1e-5)
    for part, values in own.items():
        assert_mostly_equal(values, other[part], atol=1e-5)


@needs_compiler
def test_a_small_write_past_torch_is_noticed_within_64_decisions():
    weight = torch.randn(700, 90)
    watch = cpp.Watch([torch.randn(50), weight])
    assert not any(watch.changed() for _ in range(130))
    weight.numpy()[311, 45] += 1
    assert watch.anything()
    assert sum(watch.changed() for _ in range(64)) == 1
    before = cpp.Watch([weight])
    weight.mul_(1)
    assert before.changed(), "torch counts its writes"
