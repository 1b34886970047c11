"""Spikes step by step: a block equals a loop over simulation time; what is computed once is exact."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from snn_dt.config import ModelConfig
from snn_dt.models.blocks import build_block
from snn_dt.models.tokens import Tokens, causal_mask
from tests.conftest import CONTINUOUS, TINY, doubled, make_batch, make_model, run
from tests.tolerance import assert_same_to_rounding

T, B, L, D = 3, 2, 5, 8


def make_block(last: bool = False):
    torch.manual_seed(0)
    neuron = {"tau_mem": 2.0, "reset": "hard"}
    config = ModelConfig(d_model=D, n_heads=2, mlp_ratio=2, sim_steps=T, coding="spikes", **neuron)
    return build_block(config.resolved(), L, last).double()


def tokens() -> Tokens:
    real = torch.ones(B, L, dtype=torch.bool)
    return Tokens(real, causal_mask(real))


def lif(currents):
    """Spikes of `tau_mem=2`, threshold 1, hard reset, for a list of currents."""
    v, spikes = torch.zeros_like(currents[0]), []
    for current in currents:
        h = v - v / 2 + current
        spikes.append((h >= 1).double())
        v = torch.where(h >= 1, 0.0, h)
    return spikes


def norm(module, x):
    return F.layer_norm(x, x.shape[-1:], module.weight, module.bias)


def loop(block, xs):
    """The block on a list of T inputs `[B, L, D]`, written from the equations."""
    a, mlp = block.attention, block.mlp
    s = lif([norm(a.lif_in.norm, x) for x in xs])
    counts = []
    for part in (a.query, a.key, a.value):
        linear, neurons = part
        counts.append(sum(lif([norm(neurons.norm, s_t @ linear.weight.T + linear.bias) for s_t in s])))
    y = torch.zeros(B, L, D, dtype=torch.float64)
    for h in (slice(0, D // 2), slice(D // 2, D)):
        q, k, v = (count[..., h] for count in counts)
        for i in range(L):
            scores = [(q[:, i] * k[:, j]).sum(-1) / (T * (D // 2) ** 0.5) for j in range(i + 1)]
            weight = torch.stack(scores, -1).softmax(-1)
            y[:, i, h] = sum(weight[:, j, None] * v[:, j] for j in range(i + 1))
    out = [s_t @ a.out.weight.T + a.out.bias for s_t in lif([norm(a.lif_out.norm, y)] * T)]
    ys = [x + o for x, o in zip(xs, out, strict=True)]
    s = lif([norm(mlp[0].norm, y_t) for y_t in ys])
    hidden = lif([norm(mlp[2].norm, s_t @ mlp[1].weight.T + mlp[1].bias) for s_t in s])
    return torch.stack([y_t + s_t @ mlp[-1].weight.T + mlp[-1].bias for y_t, s_t in zip(ys, hidden, strict=True)])


def test_a_block_equals_a_loop_over_the_simulation_steps():
    x = torch.randn(T, B, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    block = make_block()
    torch.testing.assert_close(block(x, tokens()), loop(block, list(x)))


def test_an_input_without_a_time_axis_equals_the_same_input_at_every_step():
    x = torch.randn(B, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    block = make_block()
    assert_same_to_rounding(block(x, tokens()), block(x.expand(T, B, L, D), tokens()))


def test_the_last_linear_on_the_mean_of_its_spikes_equals_the_mean_of_its_outputs():
    x = torch.randn(T, B, L, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    block, last = make_block(), make_block(last=True)
    once = last(x, tokens())
    assert once.shape == (B, L, D)
    torch.testing.assert_close(once, block(x, tokens()).mean(0))


def test_with_one_simulation_step_spikes_and_rates_are_the_same_model():
    config = dataclasses.replace(TINY, kind="snn_dt", sim_steps=1)
    rate = make_model(config, CONTINUOUS).double()
    spikes = make_model(dataclasses.replace(config, coding="spikes"), CONTINUOUS).double()
    spikes.load_state_dict(rate.state_dict())
    batch = doubled(make_batch(CONTINUOUS))
    torch.testing.assert_close(run(rate, batch), run(spikes, batch))


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_more_simulation_steps_change_the_spikes_but_not_the_shape(steps):
    model = make_model(dataclasses.replace(TINY, kind="snn_dt", coding="spikes", sim_steps=steps), CONTINUOUS)
    assert run(model, make_batch(CONTINUOUS)).shape == (3, 6, 2)
