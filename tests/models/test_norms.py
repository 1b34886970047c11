"""PTBN: torch's own norms at both ends of its transition, without pads; folded away it changes no prediction."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from snn_dt.models.norms import PTBN, set_transition
from tests.conftest import CONTINUOUS, DISCRETE, TINY, doubled, make_batch, make_model, run
from tests.models.folding import fold_norms
from tests.models.spike_driven import assert_spike_driven

T, B, L, D = 3, 4, 5, 6


def make_norm(transition: int = 0) -> PTBN:
    torch.manual_seed(0)
    norm = PTBN(D, 0.5, transition).double()
    for p in norm.parameters():
        nn.init.normal_(p)
    return norm


def data() -> tuple[torch.Tensor, torch.Tensor]:
    x = 2 + 3 * torch.randn(T, B, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    real = torch.arange(L).expand(B, L) >= torch.tensor([0, 1, 2, 4])[:, None]
    return x, real


def test_after_its_transition_it_is_torchs_batch_norm_of_the_real_tokens():
    norm, (x, real) = make_norm(), data()
    mean, var = torch.zeros(D, dtype=torch.float64), torch.ones(D, dtype=torch.float64)
    x.requires_grad_()
    y = norm(x, real)
    expected = F.batch_norm(x[:, real].flatten(0, 1), mean, var, norm.weight, norm.bias, training=True)
    torch.testing.assert_close(y[:, real].flatten(0, 1), expected)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    weight = torch.randn_like(expected)
    found, wanted = (torch.autograd.grad(z, x, weight)[0] for z in (y[:, real].flatten(0, 1), expected))
    torch.testing.assert_close(found, wanted)


def test_the_blend_goes_from_layer_norm_to_batch_norm_one_training_forward_at_a_time():
    norm, batch, (x, real) = make_norm(4), make_norm(), data()
    layer = F.layer_norm(x, (D,), norm.layer.weight, norm.layer.bias)
    expected = batch(x, real)
    for n in range(6):  # forwards so far: the first is layer norm alone, as published
        theta = max(0.0, 1 - n / 4)
        torch.testing.assert_close(norm(x, real), theta * layer + (1 - theta) * expected)
        norm.eval()(x, real)  # no step of the transition
        norm.train()
    assert norm.forwards == 6


def test_what_is_in_a_pad_changes_no_statistic():
    norm, other, (x, real) = make_norm(), make_norm(), data()
    z = torch.where(real[..., None], x, 1e3)
    assert torch.equal(norm(x, real)[:, real], other(z, real)[:, real])
    assert torch.equal(norm.running_var, other.running_var)


def test_evaluation_uses_the_running_statistics_alone():
    norm, (x, real) = make_norm(100), data()
    norm(x, real)
    expected = F.batch_norm(x.flatten(0, 2), norm.running_mean, norm.running_var, norm.weight, norm.bias)
    torch.testing.assert_close(norm.eval()(x, real).flatten(0, 2), expected)


@pytest.mark.parametrize("tokens", ["merged", "interleaved"])
@pytest.mark.parametrize("kind", ["dsformer_tssa", "dsformer_pssa"])
def test_folded_and_unfolded_models_agree_and_only_spike_driven_layers_are_left(kind, tokens, task):
    model = make_model(dataclasses.replace(TINY, kind=kind, tokens=tokens), task).double()
    for module in model.modules():
        if isinstance(module, PTBN):
            nn.init.normal_(module.weight, std=0.5)
            nn.init.normal_(module.bias, std=0.2)
    batch = doubled(make_batch(task))
    inputs = batch.fields
    with pytest.raises(AssertionError, match="PTBN is analogue"):
        assert_spike_driven(model, *inputs)
    folded = fold_norms(model)
    assert_spike_driven(folded, *inputs)
    torch.testing.assert_close(run(folded, batch), run(model, batch), rtol=1e-9, atol=1e-9)
    assert any(isinstance(module, PTBN) for module in model.modules())  # the model itself is as it was


@pytest.mark.parametrize("change", [{}, {"coding": "spikes"}, {"kind": "dense"}])
def test_models_with_analogue_parts_in_their_blocks_do_not_pass_for_spike_driven(change):
    model, batch = make_model(dataclasses.replace(TINY, **change), DISCRETE), make_batch(DISCRETE)
    with pytest.raises(AssertionError, match="analogue"):
        assert_spike_driven(model, *batch.fields)


def test_a_linear_layer_fed_with_anything_but_spikes_is_found():
    folded = fold_norms(make_model(dataclasses.replace(TINY, kind="dsformer_pssa"), CONTINUOUS))
    folded.blocks[0].mlp[0] = nn.Identity()
    batch = make_batch(CONTINUOUS)
    with pytest.raises(AssertionError, match="binary"):
        assert_spike_driven(folded, *batch.fields)


def test_the_transition_is_a_share_of_the_updates_however_they_are_split_and_a_count_of_old_still_is_one():
    model = make_model(dataclasses.replace(TINY, kind="dsformer_tssa"), DISCRETE)
    for share, forwards, expected in (
        (0.1, 3000, 300),
        (0.1, 4 * 3000, 1200),
        (0, 500, 0),
        (1, 500, 500),
        (200, 9, 200),
    ):
        set_transition(model, share, forwards)
        assert {m.transition for m in model.modules() if isinstance(m, PTBN)} == {expected}
