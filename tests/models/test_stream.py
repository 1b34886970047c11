"""The streaming model: all at once, one after the other and any pieces in between are the same function."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt.config import ModelConfig
from snn_dt.evaluation.decide import make_decider
from snn_dt.models import TaskShape
from snn_dt.models.decay import CHUNK, DecayAttention
from snn_dt.models.return_code import ReturnCode
from snn_dt.snn import TokenLIF
from snn_dt.snn.backends import backend_for
from tests.conftest import CONTINUOUS, DISCRETE, doubled, make_batch, make_model, run

CONFIG = ModelConfig(kind="snn_dt_stream", d_model=32, n_layers=2, n_heads=4, mlp_ratio=2, context_length=64)


def spikes_of(model, call) -> dict[str, torch.Tensor]:
    """The spikes `[T, B, D]` of each layer during a call, steps put together."""
    found: dict[str, list[torch.Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda m, i, o, name=name: found.setdefault(name, []).append(o[0].detach()))
        for name, module in model.named_modules()
        if isinstance(module, TokenLIF)
    ]
    call()
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def unroll(model, batch):
    """Predictions `[B, K, A]` from one step at a time."""
    state, predictions = None, []
    for t in range(batch.states.shape[1]):
        one = slice(t, t + 1)
        rtg, states, mask = batch.rtg[:, one], batch.states[:, one], batch.attention_mask[:, one]
        y, state = model.scan(rtg, states, torch.zeros_like(batch.actions[:, one]), mask, state)
        state["action"] = batch.actions[:, t]  # known only now
        predictions.append(y)
    return torch.cat(predictions, 1)


@pytest.mark.parametrize(("task", "reset"), [(DISCRETE, "hard"), (CONTINUOUS, "soft")], ids=["discrete", "continuous"])
@torch.inference_mode()
def test_a_thousand_single_steps_fire_exactly_the_spikes_of_the_parallel_form(task, reset):
    model = make_model(dataclasses.replace(CONFIG, reset=reset), task).double()
    batch = doubled(make_batch(task, 1000, (1000, 640)))
    results = {}
    parallel = spikes_of(model, lambda: results.update(parallel=run(model, batch)))
    unrolled = spikes_of(model, lambda: results.update(unrolled=unroll(model, batch)))
    assert len(parallel) == 10
    for name, spikes in parallel.items():
        assert torch.equal(spikes, unrolled[name]), name
        assert 0 < spikes.mean() < 1, name
    torch.testing.assert_close(results["parallel"], results["unrolled"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("cuts", [(1,), (7, 8), (64,), (10, 100, 150)])
def test_a_sequence_cut_anywhere_and_carried_on_is_predicted_as_a_whole(task, cuts):
    model, batch = make_model(CONFIG, task).double(), doubled(make_batch(task, 200, (200, 30, 5)))
    state, pieces = None, []
    for first, last in zip((0, *cuts), (*cuts, 200), strict=True):
        part = [x[:, first:last] for x in (batch.rtg, batch.states, batch.actions, batch.attention_mask)]
        y, state = model.scan(*part, state)
        pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), run(model, batch), rtol=0, atol=1e-12)


def test_rows_of_a_state_set_to_zero_begin_a_new_episode(task):
    model, batch = make_model(CONFIG, task).double(), doubled(make_batch(task, 40, (40, 40)))
    halves = [
        [x[:, i : i + 20] for x in (batch.rtg, batch.states, batch.actions, batch.attention_mask)] for i in (0, 20)
    ]
    _, state = model.scan(*halves[0])
    carried = model.scan(*halves[1], state)[0]
    fresh = model.scan(*halves[1])[0]
    keep = torch.tensor([False, True])
    mixed = model.scan(*halves[1], {n: x * keep.view(-1, *[1] * (x.dim() - 1)).to(x.dtype) for n, x in state.items()})
    torch.testing.assert_close(mixed[0], torch.stack([fresh[0], carried[1]]), rtol=0, atol=1e-12)
    assert not torch.allclose(fresh[0], carried[0])


def test_a_state_has_the_same_size_after_any_number_of_steps(task):
    model = make_model(CONFIG, task)
    sizes = []
    for k in (1, 300):
        batch = make_batch(task, k, (k,))
        state = model.scan(batch.rtg, batch.states, batch.actions, batch.attention_mask)[1]
        sizes.append({name: tuple(x.shape) for name, x in state.items()})
    assert sizes[0] == sizes[1]


def naive(attend, q, k, v):
    """The double sum of the docstring, `[T, B, H, d]`."""
    g = attend.decay.detach()
    y = torch.zeros_like(v)
    for t in range(len(q)):
        for j in range(t + 1):
            score = (q[t] * k[j]).sum(-1, keepdim=True) * (g ** (t - j))[:, None]
            y[t] += (1 - g)[:, None] * score * v[j]
    return y


def heads(length, n=3, dtype=torch.float64):
    """Random spikes q, k, v `[T, B, H, d]` and a sum to begin with."""
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.rand(length, 2, n, 4, generator=g).lt(0.3).to(dtype) for _ in range(3))
    return q, k, v, torch.rand(2, n, 4, 4, generator=g, dtype=dtype)


def test_decay_attention_is_its_double_sum():
    attend = DecayAttention(3).double()
    q, k, v, _ = heads(20)
    y, _ = attend.chunked(q, k, v, torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    torch.testing.assert_close(y, naive(attend, q, k, v), rtol=0, atol=1e-13)


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, 3 * CHUNK, 1000])
@pytest.mark.parametrize("memory", [1.0001, 8.0, 1e12], ids=["forgets at once", "usual", "forgets nothing"])
def test_chunks_equal_the_recurrence_in_values_and_gradients_for_any_decay(length, memory):
    attend = DecayAttention(3).double()
    torch.nn.init.constant_(attend.raw, torch.tensor(memory - 1).log().item())
    results = []
    for form in (attend.recurrent, attend.chunked):
        *qkv, state = (x.requires_grad_() for x in heads(length))
        y, last = form(*qkv, state)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        gradients = torch.autograd.grad((weights * y).sum() + last.sum(), [*qkv, state, attend.raw])
        results.append((y.detach(), last.detach(), *gradients))
    for a, b in zip(*results, strict=True):
        assert b.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_activity_does_not_grow_with_the_age_of_an_episode():
    attend = DecayAttention(3)
    ones = torch.ones(2000, 1, 12)
    y, state = attend(ones, ones, ones, None)
    assert y.max() <= 4.0 + 1e-3  # an average of q . k, whose largest value is d
    assert state.isfinite().all()


def test_decays_stay_inside_0_and_1_whatever_their_parameter():
    attend = DecayAttention(2)
    with torch.no_grad():
        attend.raw.copy_(torch.tensor([-200.0, 200.0]))
    q, k, v, state = heads(130, 2, torch.float32)
    y, last = attend.chunked(q, k, v, state)
    assert y.isfinite().all()
    assert last.isfinite().all()


def test_the_units_of_the_return_code_stand_where_the_data_are():
    code = ReturnCode((0.0, 0.01, 0.02, 0.05, 1.0))
    centres = -code.shift / code.slope
    assert (centres[:8] <= 0.0201).all()  # half of the returns-to-go are below 0.02
    assert (centres[1:] > centres[:-1]).all()
    apart = code(torch.tensor([[0.01], [0.02]]))
    assert (apart[0] - apart[1]).abs().max() > 0.5
    assert torch.equal(code(torch.tensor([[-3.0], [7.0]])), code(torch.tensor([[0.0], [1.0]])))


def test_equal_quantiles_leave_the_return_code_finite():
    code = ReturnCode((0.5,) * 9)
    assert code(torch.tensor([[0.2], [0.5], [0.9]])).isfinite().all()


def test_the_return_to_go_moves_predictions_however_large_state_and_action_are(task):
    task = dataclasses.replace(task, rtg_range=(0.0, 1.0))
    model, batch = make_model(CONFIG, task), make_batch(task, 20, (20,) * 4)
    loud = dataclasses.replace(batch, states=100 * batch.states)
    moved = []
    for each in (batch, loud):
        low, high = (run(model, dataclasses.replace(each, rtg=torch.full_like(each.rtg, r))) for r in (0.1, 0.9))
        moved.append((low - high).abs().mean())
    assert moved[1] > 0.5 * moved[0]


def test_gradients_reach_the_return_to_go_of_every_earlier_step():
    model = make_model(CONFIG, CONTINUOUS).double().train()
    batch = doubled(make_batch(CONTINUOUS, 12, (12,) * 32))
    rtg = batch.rtg.requires_grad_()
    model(rtg, batch.states, batch.actions, None, batch.attention_mask)[:, -1].sum().backward()
    assert (rtg.grad.abs().sum((0, 2)) > 0).all()


def test_a_task_without_quantiles_builds_a_model_too():
    model = make_model(CONFIG, TaskShape(3, 2, True, 10, rtg_range=(-2.0, -1.0)))
    assert (model.embedding.code.low, model.embedding.code.high) == (-2.0, -1.0)


@pytest.mark.skipif(backend_for("cpu") != "cpp", reason="no C++ compiler, or another kernel is set")
@torch.inference_mode()
def test_a_fused_step_leaves_no_denormal_numbers_in_the_state():
    """6,000 steps of CartPole left 207 of 3,329 numbers below 1.2e-38, where arithmetic is slow."""
    model = make_model(CONFIG, CONTINUOUS)
    decide, state = make_decider(model), model.rest(2)
    for name, part in state.items():
        if name.startswith("blocks"):
            part.fill_(1e-39)
    _, state = decide(torch.rand(2, 1), torch.randn(2, 5), state)
    tiny = torch.finfo(torch.float32).tiny
    for name, part in state.items():
        if name.startswith("blocks"):
            assert not ((part != 0) & (part.abs() < tiny)).any(), name
    assert float(torch.tensor(1e-39) * 0.5) > 0, "denormal numbers are kept outside the call"
