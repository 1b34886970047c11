"""The shell around the blocks: what a prediction is, what it depends on, how it learns."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

import snn_dt.snn.neuron_layers as layers
import snn_dt.snn.neurons as neurons
from snn_dt.config import ModelConfig
from snn_dt.errors import ConfigError
from snn_dt.models.blocks import build_block
from snn_dt.models.tokens import Tokens
from snn_dt.snn.reference import rate_reference, scan_reference
from snn_dt.snn.surrogate import smooth_spike
from tests.conftest import CONTINUOUS, DISCRETE, TINY, make_batch, make_model, run


def test_predictions_have_the_shape_of_the_actions(config, task):
    assert run(make_model(config, task), make_batch(task)).shape == (3, 6, task.action_dim)


def test_continuous_predictions_stay_inside_the_action_bounds(config):
    model = make_model(config, CONTINUOUS)
    nn.init.normal_(next(model.head.parameters()), std=100.0)
    y = run(model, make_batch(CONTINUOUS))
    low, high = torch.tensor(CONTINUOUS.action_low), torch.tensor(CONTINUOUS.action_high)
    assert (y >= low).all()
    assert (y <= high).all()
    at_a_bound = torch.minimum(y - low, high - y) < 1e-3
    assert at_a_bound.any(dim=(0, 1)).all()  # the bounds are those of the task, not of tanh


def test_a_model_larger_than_the_memory_is_refused_in_one_line():
    with pytest.raises(ConfigError, match=r"model: expected one that fits in memory, found: .*lower model.d_model"):
        make_model(TINY, dataclasses.replace(DISCRETE, n_timesteps=10**13))


def test_actions_without_bounds_are_not_squashed():
    task = dataclasses.replace(CONTINUOUS, action_low=None, action_high=None)
    model = make_model(TINY, task)
    nn.init.normal_(model.head.weight, std=100.0)
    assert run(model, make_batch(task)).abs().max() > 10


def test_dense_block_equals_torchs_own_encoder_layer_with_the_same_weights():
    torch.manual_seed(0)
    block = build_block(ModelConfig(kind="dense", d_model=16, n_heads=4), n_tokens=11, last=False)
    peer = nn.TransformerEncoderLayer(16, 4, 64, dropout=0.0, activation="relu", batch_first=True, norm_first=True)
    attention = block.attention
    with torch.no_grad():
        peer.self_attn.in_proj_weight.copy_(torch.cat([attention.query.weight, attention.key_value.weight]))
        peer.self_attn.in_proj_bias.copy_(torch.cat([attention.query.bias, attention.key_value.bias]))
    for ours, theirs in (
        (attention.out, peer.self_attn.out_proj),
        (attention.norm, peer.norm1),
        (block.mlp[0], peer.norm2),
        (block.mlp[1], peer.linear1),
        (block.mlp[3], peer.linear2),
    ):
        theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 11, 16)
    allowed = torch.ones(11, 11).tril().bool()
    expected = peer(x, src_mask=~allowed)
    tokens = Tokens(torch.ones(3, 11).bool(), allowed.expand(3, 1, 11, 11))
    torch.testing.assert_close(block(x, tokens), expected, rtol=1e-5, atol=1e-5)


SPIKING = {
    "rate-hard": {},
    "rate-soft": {"reset": "soft"},
    "rate-none-linear-routing": {"reset": "none", "attention": "linear", "routing": True},
    "spikes-hard": {"coding": "spikes"},
    "spikes-soft-linear": {"coding": "spikes", "reset": "soft", "attention": "linear"},
    "tssa": {"kind": "dsformer_tssa", "surrogate": "fast_sigmoid", "detach_reset": False},
    "pssa": {"kind": "dsformer_pssa", "surrogate": "fast_sigmoid", "detach_reset": False, "attention_window": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPIKING)
def test_a_spiking_block_with_the_smooth_spike_passes_a_full_gradient_check(name, monkeypatch):
    def rate(x, steps, p):
        return rate_reference(x, steps, p, fire=smooth_spike)

    monkeypatch.setattr(neurons, "lif_rate", rate)
    monkeypatch.setattr(layers, "norm_rate", lambda x, norm, steps, p: rate(norm(x), steps, p))
    monkeypatch.setattr(
        neurons, "lif_scan", lambda x, v0, p: scan_reference(x, torch.zeros_like(x[0]), p, fire=smooth_spike)
    )
    torch.manual_seed(0)
    config = ModelConfig(d_model=4, n_heads=2, mlp_ratio=2, sim_steps=3, surrogate_slope=2.0, norm_transition=4)
    config = dataclasses.replace(config, **SPIKING[name]).resolved()
    block = build_block(config, n_tokens=3, last=False).double().eval()
    tokens = Tokens(torch.ones(2, 3).bool(), torch.ones(3, 3).tril().bool().expand(2, 1, 3, 3))
    time = [3] if config.coding == "spikes" else []
    x = torch.randn(*time, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in block.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(block, dict(zip(names, values, strict=True)), (x, tokens))

    assert torch.autograd.gradcheck(call, (x, *block.parameters()))


def test_every_parameter_gets_a_gradient_and_pads_get_none(config, task):
    model, batch = make_model(config, task).train(), make_batch(task, lengths=(6, 3, 1) * 8)
    states = batch.states.clone().requires_grad_()
    y = run(model, dataclasses.replace(batch, states=states))
    y[batch.attention_mask].square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []
    assert states.grad[batch.attention_mask].abs().sum() > 0
    assert states.grad[~batch.attention_mask].abs().sum() == 0


@pytest.mark.parametrize("coding", ["rate", "spikes"])
def test_every_weight_matrix_inside_a_spiking_block_is_fed_by_spikes(coding):
    model = make_model(dataclasses.replace(TINY, coding=coding, sim_steps=4), DISCRETE)
    seen = []

    def record(name):
        return lambda module, inputs: seen.append((name, inputs[0].detach()))

    for name, module in model.blocks.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(record(name))
    run(model, make_batch(DISCRETE))
    assert len(seen) == 2 * 6  # query, key, value, out, and two of the MLP in each of two blocks
    for name, x in seen:
        counts = x * (1 if x.dim() == 4 else 4)
        assert torch.equal(counts, counts.round()), name
        assert x.min() >= 0, name
        assert x.max() <= 1, name


def test_the_slope_never_changes_a_prediction(task):
    shallow, steep = (
        make_model(dataclasses.replace(TINY, kind="snn_dt", positions="phase", surrogate_slope=k), task)
        for k in (1, 50)
    )
    assert torch.equal(run(shallow, make_batch(task)), run(steep, make_batch(task)))


def test_behaviour_cloning_is_deaf_to_the_return_asked_for(config):
    batch = make_batch(CONTINUOUS)
    other = dataclasses.replace(batch, rtg=2 * batch.rtg.flip(1) - 0.3)
    assert not torch.equal(run(make_model(config, CONTINUOUS), batch), run(make_model(config, CONTINUOUS), other))
    clone = make_model(dataclasses.replace(config, return_conditioned=False), CONTINUOUS)
    assert torch.equal(run(clone, batch), run(clone, other))
