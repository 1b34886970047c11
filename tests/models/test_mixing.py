"""Every form of attention equals a naive loop written from its equation."""

from __future__ import annotations

import math

import pytest
import torch

from snn_dt.models.dsformer_attention import PSSA, TSSA
from snn_dt.models.mixing import LinearSpikeAttention, SpikeAttention
from snn_dt.models.tokens import ALL_TOKENS, Tokens, causal_mask

T, B, L, H, D = 3, 2, 7, 2, 8
DH = D // H


def trains(seed: int = 0) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(T, B, L, D, generator=g) < 0.4).double() for _ in "qkv")


def tokens(read: slice = ALL_TOKENS) -> Tokens:
    real = torch.ones(B, L, dtype=torch.bool)
    real[1, :3] = False
    return Tokens(real, causal_mask(real), read)


def may_attend(b: int, i: int, j: int) -> bool:
    return j == i or (j < i and not (b == 1 and j < 3))


def head(h: int) -> slice:
    return slice(h * DH, (h + 1) * DH)


def loop(combine) -> torch.Tensor:
    """`combine(b, h, i, allowed js)` gives `[T, D / H]` for every batch row, head and query."""
    y = torch.zeros(T, B, L, D, dtype=torch.float64)
    for b in range(B):
        for h in range(H):
            for i in range(L):
                y[:, b, i, head(h)] = combine(b, head(h), i, [j for j in range(L) if may_attend(b, i, j)])
    return y


@pytest.mark.parametrize("read", [ALL_TOKENS, slice(-1, None), slice(1, None, 3)])
def test_tssa_equals_the_loop(read):
    q, k, v = trains()
    module = TSSA(H, v_threshold=0.5).double()
    with torch.no_grad():
        module.log_scale.copy_(torch.tensor([0.3, 1.1]))

    def combine(b, h, i, allowed):
        scores = {j: sum((q[t, b, i, h] * k[t, b, j, h]).sum() for t in range(T)) for j in allowed}
        a = math.exp([0.3, 1.1][h.start // DH]) / (len(allowed) * T * DH)
        return torch.stack([a * sum(scores[j] * v[t, b, j, h] for j in allowed) for t in range(T)])

    found = module(q[..., read, :], k, v, tokens(read))
    torch.testing.assert_close(found, loop(combine)[:, :, read])


@pytest.mark.parametrize("read", [ALL_TOKENS, slice(-1, None), slice(1, None, 3)])
@pytest.mark.parametrize("window", [1, 3, 20])
def test_pssa_equals_the_loop_with_a_bias_of_its_own_for_every_head(window, read):
    q, k, v = trains()
    module = PSSA(H, n_tokens=L + 2, window=window).double()
    torch.nn.init.normal_(module.bias)
    p = module.bias.detach()

    def combine(b, h, i, allowed):
        # rows and columns of P count from the end of the window, two steps shorter here than P
        near = [j for j in allowed if i - j < window]
        kv = sum(p[h.start // DH, i + 2, j + 2] * k[:, b, j, h] * v[:, b, j, h] for j in near)
        return q[:, b, i, h] * kv

    found = module(q[..., read, :], k, v, tokens(read))
    torch.testing.assert_close(found, loop(combine)[:, :, read])
    assert found.abs().sum() > 0


def test_softmax_attention_over_counts_equals_the_loop():
    q, k, v = trains()
    qc, kc, vc = (x.sum(0) for x in (q, k, v))

    def combine(b, h, i, allowed):
        scores = torch.stack([(qc[b, i, h] * kc[b, j, h]).sum() / (T * DH**0.5) for j in allowed]).softmax(0)
        return sum(w * vc[b, j, h] for w, j in zip(scores, allowed, strict=True))

    found = SpikeAttention(H, DH**-0.5, T)(q, k, v, tokens())
    torch.testing.assert_close(found, loop(combine)[0])
    torch.testing.assert_close(found, SpikeAttention(H, DH**-0.5, T)(q.mean(0), k.mean(0), v.mean(0), tokens()))


def test_linear_attention_over_counts_equals_the_loop():
    q, k, v = trains()
    qc, kc, vc = (x.sum(0) for x in (q, k, v))

    def combine(b, h, i, allowed):
        return sum((qc[b, i, h] * kc[b, j, h]).sum() * vc[b, j, h] for j in allowed) / (len(allowed) * DH**0.5)

    found = LinearSpikeAttention(H, T)(q, k, v, tokens())
    torch.testing.assert_close(found, loop(combine)[0])
    torch.testing.assert_close(found, LinearSpikeAttention(H, T)(q.mean(0), k.mean(0), v.mean(0), tokens()))


@pytest.mark.parametrize("length", [1, 20, 200])
def test_the_scale_of_tssa_keeps_its_neurons_between_silence_and_saturation_at_any_length(length):
    g = torch.Generator().manual_seed(0)
    q, k, v = ((torch.rand(4, 2, length, 64, generator=g) < 0.2).float() for _ in "qkv")
    real = torch.ones(2, length, dtype=torch.bool)
    current = TSSA(2, v_threshold=0.5)(q, k, v, Tokens(real, causal_mask(real)))
    assert 0.05 < (current[:, :, -1] >= 0.5).float().mean() < 0.8
