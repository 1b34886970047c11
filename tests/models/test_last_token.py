"""A decision by the kernel of the whole stack of blocks, against the modules."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt import from_pretrained
from snn_dt.models.last_token import LastToken
from snn_dt.snn import cpp
from tests.conftest import CONTINUOUS, DISCRETE, ROOT, TINY, VARIANTS, make_batch, make_model, run
from tests.tolerance import assert_equal_but_for_flips

pytestmark = pytest.mark.skipif(cpp.load() is None, reason="no C++ compiler")
KNOWN = (
    "dense", "snn_dt", "snn_dt-phase", "snn_dt-sinusoidal", "snn_dt-routing", "snn_dt-phase-routing", "dense-merged",
    "snn_dt-rate-head",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _kernels_where_they_can_be_had(monkeypatch):
    """Whatever backend the other tests are run with."""
    monkeypatch.delenv("SNN_DT_KERNEL", raising=False)


def calls(monkeypatch) -> list[bool]:
    """Whether each decision from now on was the kernel's."""
    noted, call = [], LastToken.__call__

    def note(self, *arguments):
        result = call(self, *arguments)
        noted.append(result is not None)
        return result

    monkeypatch.setattr(LastToken, "__call__", note)
    return noted


@torch.no_grad()
def both(model, batch, monkeypatch):
    """The last prediction by the kernel, and the modules' of the whole window."""
    with monkeypatch.context() as patch:
        noted = calls(patch)
        found = run(model, batch, last_only=True)
    assert noted == [True]
    return found, run(model, batch)[:, -1:]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "changes", [{}, {"d_model": 24, "n_heads": 1}, {"n_layers": 1}, {"d_model": 136, "sim_steps": 7}]
)
@pytest.mark.parametrize("kind", KNOWN)
def test_decisions_equal_the_modules(kind, changes, threads, monkeypatch):
    torch.set_num_threads(threads)
    model = make_model(dataclasses.replace(TINY, **VARIANTS[kind], **changes), CONTINUOUS)
    batches = [make_batch(CONTINUOUS, lengths=(6, 3, 1, 6, 6), seed=seed) for seed in range(3)]
    # a spike more or less moves a decision by 1e-3
    assert_equal_but_for_flips([both(model, batch, monkeypatch) for batch in batches], rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", ["hopper-snn_dt", "cartpole-dense", "pendulum-snn_dt"])
def test_decisions_of_trained_models_equal_the_modules(name, monkeypatch):
    model = from_pretrained(ROOT / "results" / "pretrained" / name).model.eval()
    lengths = [model.context_length] * 20 + [5] * 4
    batches = [make_batch(model.task, model.context_length, lengths, seed=seed) for seed in range(3)]
    assert_equal_but_for_flips([both(model, batch, monkeypatch) for batch in batches], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_gap_in_the_window_is_seen_by_nobody(monkeypatch):
    model, runs = make_model(TINY, DISCRETE), []
    for seed in range(3):
        batch = make_batch(DISCRETE, seed=seed)
        mask = batch.attention_mask.clone()
        mask[0, 2:4] = False
        runs.append(both(model, dataclasses.replace(batch, attention_mask=mask), monkeypatch))
    assert_equal_but_for_flips(runs, rtol=0, atol=3e-6)
    found = runs[-1][0]
    assert not torch.equal(found[0], run(model, batch, last_only=True)[0])


@torch.no_grad()
def test_new_weights_are_used_at_once(monkeypatch):
    model, batch = make_model(TINY, CONTINUOUS), make_batch(CONTINUOUS)
    before = run(model, batch, last_only=True)
    model.blocks[0].mlp[-1].weight.mul_(3.0)
    runs = [both(model, make_batch(CONTINUOUS, seed=seed), monkeypatch) for seed in range(3)]
    assert_equal_but_for_flips(runs, rtol=0, atol=3e-6)
    assert not torch.allclose(runs[0][0], before, atol=1e-3)


@torch.no_grad()
def test_whoever_listens_to_a_module_hears_every_decision(monkeypatch):
    model, batch, heard = make_model(TINY, CONTINUOUS), make_batch(CONTINUOUS), []
    run(model, batch, last_only=True)
    noted = calls(monkeypatch)
    handle = model.blocks[0].attention.register_forward_hook(lambda *_: heard.append(1))
    run(model, batch, last_only=True)
    handle.remove()
    run(model, batch, last_only=True)
    assert heard == [1]
    assert noted == [False, True]


@pytest.mark.parametrize("kind", sorted(set(VARIANTS) - set(KNOWN) - {"snn_dt-phase-gate", "snn_dt_stream"}))
@torch.no_grad()
def test_other_blocks_are_left_to_the_modules(kind, monkeypatch):
    model = make_model(dataclasses.replace(TINY, **VARIANTS[kind]), CONTINUOUS)
    noted = calls(monkeypatch)
    run(model, make_batch(CONTINUOUS), last_only=True)
    assert noted == [False]


def test_training_gradients_and_double_precision_are_left_to_the_modules(monkeypatch):
    model, batch = make_model(TINY, CONTINUOUS), make_batch(CONTINUOUS)
    noted = calls(monkeypatch)
    assert run(model, batch, last_only=True).requires_grad
    with torch.no_grad():
        run(model.train(), batch, last_only=True)
        double = [x.double() if x.is_floating_point() else x for x in dataclasses.astuple(batch)]
        model.eval().double()(*double, last_only=True)
    assert noted == [False, False, False]
