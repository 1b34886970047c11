"""Forms of attention over queries, keys and values with the same causal mask.

B batch, L tokens, Q query tokens (L or fewer), H heads, D width, d = D / H, T simulation steps. The spiking forms take
spike trains `[T, B, L, D]`. The forms over spike counts also take rates `[B, L, D]` (counts divided by T).
`model.attention` selects an entry of the table `ATTENTIONS` for the kind snn_dt. DSFormer has two forms of its own.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.model_config import ModelConfig
from snn_dt.models.layers import TimeMean
from snn_dt.models.tokens import Tokens
from snn_dt.registry import register_attention

if TYPE_CHECKING:
    from jaxtyping import Float


class SoftmaxAttention(nn.Module):
    """Softmax attention `softmax(scale q k^T) v` per head under the attention mask."""

    def __init__(self, n_heads: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.scale, self.dropout = n_heads, scale, dropout

    def forward(
        self,
        q: Float[Tensor, "B Q D"],
        k: Float[Tensor, "B L D"],
        v: Float[Tensor, "B L D"],
        tokens: Tokens,
    ) -> Float[Tensor, "B Q D"]:
        """Mix `v [B, L, D]` for queries `q [B, Q, D]`."""
        heads = self.n_heads, -1
        q, k, v = (x.unflatten(-1, heads).transpose(1, 2) for x in (q, k, v))  # [B, H, ., d]
        dropout = self.dropout if self.training else 0.0
        mask = tokens.additive.to(q.dtype)  # torch would convert a bool mask in every layer
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scale)
        return y.transpose(1, 2).flatten(2)  # [B, H, Q, d] -> [B, Q, D]


class SpikeAttention(SoftmaxAttention):
    r"""Causal softmax attention `softmax(Q K^T / (T sqrt(d_h))) V` over spike counts (SNN-DT, arXiv 2508.21505).

    The published code has no causal mask. Products with counts are sums. Each spike of q adds the count of a key to a
    score. Each spike of v adds an attention weight. The factor `1 / T` is not in the paper. It makes the softmax
    independent of T. Without it an untrained model attends to a few random tokens and reaches lower returns.
    """

    def __init__(self, n_heads: int, scale: float, sim_steps: int, dropout: float = 0.0) -> None:
        # Rates are counts / T: scale / T Q K^T of counts is scale T Q K^T of rates.
        super().__init__(n_heads, scale * sim_steps, dropout)
        self.sim_steps = sim_steps
        self.rate = TimeMean()

    def forward(
        self,
        q: Float[Tensor, "*T B Q D"],
        k: Float[Tensor, "*T B L D"],
        v: Float[Tensor, "*T B L D"],
        tokens: Tokens,
    ) -> Float[Tensor, "B Q D"]:
        """Return counts `[B, Q, D]`. They are one current for all simulation steps."""
        return super().forward(self.rate(q), self.rate(k), self.rate(v), tokens) * self.sim_steps


class LinearSpikeAttention(nn.Module):
    r"""Softmax-free attention over spike counts: `y_i = 1 / (n_i sqrt(d_h)) \sum_{j <= i} (q_i . k_j) v_j`.

    `n_i` is the number of tokens that i may attend to. The division keeps activity independent of the context length.
    With counts `(q_i . k_j) v_j` needs only additions.
    """

    def __init__(self, n_heads: int, sim_steps: int) -> None:
        super().__init__()
        self.n_heads, self.sim_steps = n_heads, sim_steps
        self.rate = TimeMean()

    def forward(
        self,
        q: Float[Tensor, "*T B Q D"],
        k: Float[Tensor, "*T B L D"],
        v: Float[Tensor, "*T B L D"],
        tokens: Tokens,
    ) -> Float[Tensor, "B Q D"]:
        """Return `[B, Q, D]`. It is one current for all simulation steps."""
        q, k, v = (rearrange(self.rate(x), "b l (h d) -> b h l d", h=self.n_heads) for x in (q, k, v))
        # Rates are counts / T, so a product of three rates must be multiplied by T^3.
        scale = self.sim_steps**3 * q.shape[-1] ** -0.5
        return rearrange(scale * _mean_over_keys(q, k, v, tokens.query_mask), "b h l d -> b l (h d)")


class TSSA(nn.Module):
    r"""Temporal spiking self-attention (DSFormer, arXiv 2504.03800) with a scale that the published code lacks.

    ```
    Qbar = [Q^1 .. Q^T], Kbar, Vbar in {0, 1}^{L x T d_h}
    Y_i = a_h / (n_i T d_h) \sum_{j <= i} (Qbar_i . Kbar_j) Vbar_j
    ```

    for each head h. Y is then split into T steps. Without a scale the integers `(Qbar Kbar^T) Vbar` are far above the
    threshold and any coincidence causes a spike. `a_h` is learned. At its initial value a firing rate of 0.2 gives
    about the threshold.
    """

    def __init__(self, n_heads: int, v_threshold: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.log_scale = nn.Parameter(torch.full((n_heads,), v_threshold / 0.2**3).log())

    def forward(
        self,
        q: Float[Tensor, "*T B Q D"],
        k: Float[Tensor, "*T B L D"],
        v: Float[Tensor, "*T B L D"],
        tokens: Tokens,
    ) -> Float[Tensor, "*T B Q D"]:
        """Return currents `[T, B, Q, D]`."""
        steps = len(q)
        q, k, v = (rearrange(x, "t b l (h d) -> b h l (t d)", h=self.n_heads) for x in (q, k, v))  # [B, H, ., T d]
        y = _mean_over_keys(q, k, v, tokens.query_mask) * (self.log_scale.exp() / q.shape[-1]).view(-1, 1, 1)
        return rearrange(y, "b h l (t d) -> t b l (h d)", t=steps)


class PSSA(nn.Module):
    r"""Positional spiking self-attention (DSFormer): `Y_i = Q_i * \sum_{j <= i, i - j < S} P_ij (K_j * V_j)`.

    All operations except the sum with the bias P are elementwise. P is learned and starts at 1. Every head h has its
    own P, unlike in the published code. Rows and columns count from the end of the window.

    A model with an attention span has no window in its decisions. There P depends on the distance `i - j` only. This
    is the form with `relative`.
    """

    band: Tensor

    def __init__(self, n_heads: int, n_tokens: int, window: int, relative: bool = False) -> None:
        super().__init__()
        self.n_heads, self.window, self.relative = n_heads, window, relative
        if relative:
            self.bias = nn.Parameter(torch.ones(n_heads, window))
            return
        self.bias = nn.Parameter(torch.ones(n_heads, n_tokens, n_tokens))
        ones = torch.ones(n_tokens, n_tokens, dtype=torch.bool)
        self.register_buffer("band", ones.triu(1 - window), persistent=False)

    def forward(
        self,
        q: Float[Tensor, "*T B Q D"],
        k: Float[Tensor, "*T B L D"],
        v: Float[Tensor, "*T B L D"],
        tokens: Tokens,
    ) -> Float[Tensor, "*T B Q D"]:
        """Return currents `[T, B, Q, D]`."""
        steps = len(q)
        kv = rearrange(k * v, "t b l (h d) -> b h l (t d)", h=self.n_heads)  # [B, H, L, T d]
        if self.relative:
            # [H, B or 1, Q, L] -> [B or 1, H, Q, L]
            weights = self.bias[:, tokens.distance.clamp(0, self.window - 1)].transpose(0, 1)
        else:  # a shorter window uses the last rows and columns of P
            weights = self.bias[:, -kv.shape[2] :, -kv.shape[2] :][:, tokens.query_slice]  # [H, Q, L]
        y = weights.masked_fill(~self.pairs(tokens), 0) @ kv  # [B, H, Q, T d]
        return q * rearrange(y, "b h l (t d) -> t b l (h d)", t=steps)

    def pairs(self, tokens: Tokens) -> Tensor:
        """Return which query sums over which key: `[B, 1, Q, L]` bool."""
        if self.relative:
            return tokens.query_mask & (tokens.distance < self.window).unsqueeze(1)
        length = tokens.valid.shape[1]
        return tokens.query_mask & self.band[-length:, -length:][tokens.query_slice]


def _mean_over_keys(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Return `1/n_i sum_j (q_i . k_j) v_j` for `q [B, H, Q, d]`, `k`, `v [B, H, L, d]`, `mask [B, 1, Q, L]` bool."""
    scores = (q @ k.transpose(-1, -2)).masked_fill(~mask, 0)  # [B, H, Q, L]
    return (scores @ v) / mask.sum(-1, keepdim=True)  # [B, H, Q, d]


def _softmax(config: ModelConfig) -> SpikeAttention:
    scale = (config.d_model // config.n_heads) ** -0.5
    return SpikeAttention(config.n_heads, scale, config.sim_steps, config.dropout)


register_attention("softmax", _softmax)
register_attention("linear", lambda config: LinearSpikeAttention(config.n_heads, config.sim_steps))
