"""A decision by the kernel of the whole stack of blocks, against the modules."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from snn_dt import from_pretrained
from snn_dt.evaluation.decide import make_decider
from snn_dt.models.last_token import knows_window
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


@torch.no_grad()
def both(model, batch):
    """The last prediction by the kernel, and the modules' of the whole window."""
    return make_decider(model, "cpp")(*batch.fields), run(model, batch)[:, -1]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "changes", [{}, {"d_model": 24, "n_heads": 1}, {"n_layers": 1}, {"d_model": 136, "sim_steps": 7}]
)
@pytest.mark.parametrize("kind", KNOWN)
def test_decisions_equal_the_modules(kind, changes, threads):
    torch.set_num_threads(threads)
    model = make_model(dataclasses.replace(TINY, **VARIANTS[kind], **changes), CONTINUOUS)
    batches = [make_batch(CONTINUOUS, lengths=(6, 3, 1, 6, 6), seed=seed) for seed in range(3)]
    # a spike more or less moves a decision by 1e-3
    assert_equal_but_for_flips([both(model, batch) for batch in batches], rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", ["hopper-snn_dt", "cartpole-dense", "pendulum-snn_dt"])
def test_decisions_of_trained_models_equal_the_modules(name):
    model = from_pretrained(ROOT / "results" / "pretrained" / name).model.eval()
    lengths = [model.context_length] * 20 + [5] * 4
    batches = [make_batch(model.task, model.context_length, lengths, seed=seed) for seed in range(3)]
    assert_equal_but_for_flips([both(model, batch) for batch in batches], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_gap_in_the_window_is_seen_by_nobody(monkeypatch):
    model, runs = make_model(TINY, DISCRETE), []
    for seed in range(3):
        batch = make_batch(DISCRETE, seed=seed)
        mask = batch.attention_mask.clone()
        mask[0, 2:4] = False
        runs.append(both(model, dataclasses.replace(batch, attention_mask=mask)))
    assert_equal_but_for_flips(runs, rtol=0, atol=3e-6)
    found = runs[-1][0]
    assert not torch.equal(found[0], run(model, batch)[0, -1])


@torch.no_grad()
def test_new_weights_are_used_at_once():
    model, batch = make_model(TINY, CONTINUOUS), make_batch(CONTINUOUS)
    decide = make_decider(model, "cpp")
    before = decide(*batch.fields)
    model.blocks[0].mlp[-1].weight.mul_(3.0)
    batches = [make_batch(CONTINUOUS, seed=seed) for seed in range(3)]
    runs = [(decide(*each.fields), run(model, each)[:, -1]) for each in batches]
    assert_equal_but_for_flips(runs, rtol=0, atol=3e-6)
    assert not torch.allclose(runs[0][0], before, atol=1e-3)


@pytest.mark.parametrize("kind", sorted(set(VARIANTS) - set(KNOWN) - {"snn_dt_stream", "dense-span", "snn_dt-span"}))
def test_other_blocks_are_left_to_the_modules(kind):
    model = make_model(dataclasses.replace(TINY, **VARIANTS[kind]), CONTINUOUS)
    assert not knows_window(model)
    assert make_decider(model).way == "modules"


def test_training_and_double_precision_are_left_to_the_modules():
    model = make_model(TINY, CONTINUOUS)
    assert knows_window(model)
    assert not knows_window(model.train())
    assert not knows_window(model.eval().double())


@torch.no_grad()
def test_a_batch_without_rows_has_no_decisions():
    model, batch = make_model(TINY, CONTINUOUS), make_batch(CONTINUOUS)
    empty = [x[:0] for x in batch.fields]
    assert make_decider(model, "cpp")(*empty).shape == (0, 2)
