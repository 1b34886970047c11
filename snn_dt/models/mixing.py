"""How tokens mix: every form takes queries, keys and values and obeys the same causal mask.

B batch, L tokens, Q tokens asked for (L or fewer), H heads, D width, T simulation steps. The spiking forms take spike
trains `[T, B, L, D]`; those over spike counts also take rates `[B, L, D]`, which are counts over T.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.model_config import ModelConfig
from snn_dt.models.layers import TimeMean
from snn_dt.models.tokens import Tokens
from snn_dt.registry import register_attention


class SoftmaxAttention(nn.Module):
    """`softmax(scale q k^T) v` per head, over the tokens the mask allows."""

    def __init__(self, n_heads: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.scale, self.dropout = n_heads, scale, dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tokens: Tokens) -> Tensor:
        """Mix `v [B, L, D]` for queries `q [B, Q, D]`."""
        heads = self.n_heads, -1
        q, k, v = (x.unflatten(-1, heads).transpose(1, 2) for x in (q, k, v))  # [B, H, ., D / H]
        dropout = self.dropout if self.training else 0.0
        mask = tokens.additive.to(q.dtype)  # a mask of bool would be turned into this in every layer
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scale)
        return y.transpose(1, 2).flatten(2)


class SpikeAttention(SoftmaxAttention):
    r"""`softmax(Q K^T / (T sqrt(d_h))) V` over spike counts (SNN-DT, arXiv 2508.21505), with the mask its code lacks.

    A product with a count is a sum: every spike of q adds a key's count to a score, every spike of v adds a weight. The
    `1 / T`, which the paper has not, keeps the softmax as soft for many simulation steps as for one: without it an
    untrained model attends to a few random tokens, and learns and returns less.
    """

    def __init__(self, n_heads: int, scale: float, sim_steps: int, dropout: float = 0.0) -> None:
        super().__init__(n_heads, scale * sim_steps, dropout)
        self.sim_steps = sim_steps
        self.rate = TimeMean()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tokens: Tokens) -> Tensor:
        """Return counts `[B, Q, D]`, one current for all of simulation time."""
        return super().forward(self.rate(q), self.rate(k), self.rate(v), tokens) * self.sim_steps


class LinearSpikeAttention(nn.Module):
    r"""Softmax-free attention over spike counts: `y_i = 1 / (n_i sqrt(d_h)) \sum_{j <= i} (q_i . k_j) v_j`.

    `n_i` is the number of tokens that i may attend to, so that activity grows neither with the context nor with the age
    of an episode. In counts, `(q_i . k_j) v_j` is nothing but additions.
    """

    def __init__(self, n_heads: int, sim_steps: int) -> None:
        super().__init__()
        self.n_heads, self.sim_steps = n_heads, sim_steps
        self.rate = TimeMean()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tokens: Tokens) -> Tensor:
        """Return `[B, Q, D]`, one current for all of simulation time."""
        q, k, v = (rearrange(self.rate(x), "b l (h d) -> b h l d", h=self.n_heads) for x in (q, k, v))
        scale = self.sim_steps**3 * q.shape[-1] ** -0.5
        return rearrange(scale * _mean_over_keys(q, k, v, tokens.query_mask), "b h l d -> b l (h d)")


class TSSA(nn.Module):
    r"""Temporal spiking self-attention (DSFormer, arXiv 2504.03800), with the scale its published code lacks.

    ```
    Qbar = [Q^1 .. Q^T], Kbar, Vbar in {0, 1}^{L x T d_h}
    Y_i = a_h / (n_i T d_h) \sum_{j <= i} (Qbar_i . Kbar_j) Vbar_j
    ```

    per head h, split back to T steps. Without a scale the integers `(Qbar Kbar^T) Vbar` dwarf the threshold and any
    coincidence fires; `a_h`, learned, starts where a firing rate of 0.2 gives a current of about the threshold.
    """

    def __init__(self, n_heads: int, v_threshold: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.log_scale = nn.Parameter(torch.full((n_heads,), v_threshold / 0.2**3).log())

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tokens: Tokens) -> Tensor:
        """Return currents `[T, B, Q, D]`."""
        steps = len(q)
        q, k, v = (rearrange(x, "t b l (h d) -> b h l (t d)", h=self.n_heads) for x in (q, k, v))
        y = _mean_over_keys(q, k, v, tokens.query_mask) * (self.log_scale.exp() / q.shape[-1]).view(-1, 1, 1)
        return rearrange(y, "b h l (t d) -> t b l (h d)", t=steps)


class PSSA(nn.Module):
    r"""Positional spiking self-attention (DSFormer): `Y_i = Q_i * \sum_{j <= i, i - j < S} P_ij (K_j * V_j)`.

    All but the bias P is elementwise. P is learned and, unlike the published one, every head h has its own; it starts
    at 1. Rows and columns are counted from the end of the window, where a prediction is always made.
    """

    band: Tensor

    def __init__(self, n_heads: int, n_tokens: int, window: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.bias = nn.Parameter(torch.ones(n_heads, n_tokens, n_tokens))
        ones = torch.ones(n_tokens, n_tokens, dtype=torch.bool)
        self.register_buffer("band", ones.triu(1 - window), persistent=False)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, tokens: Tokens) -> Tensor:
        """Return currents `[T, B, Q, D]`."""
        steps = len(q)
        kv = rearrange(k * v, "t b l (h d) -> b h l (t d)", h=self.n_heads)
        weights = self.bias[:, -kv.shape[2] :, -kv.shape[2] :][:, tokens.query_slice]  # [H, Q, L]
        y = weights.masked_fill(~self.pairs(tokens), 0) @ kv
        return q * rearrange(y, "b h l (t d) -> t b l (h d)", t=steps)

    def pairs(self, tokens: Tokens) -> Tensor:
        """Return which token adds which, `[B, 1, Q, L]`."""
        length = tokens.valid.shape[1]
        return tokens.query_mask & self.band[-length:, -length:][tokens.query_slice]


def _mean_over_keys(q: Tensor, k: Tensor, v: Tensor, asked: Tensor) -> Tensor:
    """Return `1/n_i sum_j (q_i . k_j) v_j` for `q [B, H, Q, d]`, `k`, `v [B, H, L, d]`, over what `asked` allows."""
    scores = (q @ k.transpose(-1, -2)).masked_fill(~asked, 0)
    return (scores @ v) / asked.sum(-1, keepdim=True)


def _softmax(config: ModelConfig) -> SpikeAttention:
    scale = (config.d_model // config.n_heads) ** -0.5
    return SpikeAttention(config.n_heads, scale, config.sim_steps, config.dropout)


register_attention("softmax", _softmax)
register_attention("linear", lambda config: LinearSpikeAttention(config.n_heads, config.sim_steps))
