"""Forms of attention over queries, keys and values with the same causal mask.

B batch, L tokens, Q query tokens (L or fewer), H heads, D width, d = D / H, T simulation steps. The spiking forms take
spike trains `[T, B, L, D]`. The forms over spike counts also take rates `[B, L, D]` (counts divided by T).
`model.attention` selects an entry of the table `ATTENTIONS` for the kind snn_dt. `dsformer_attention.py` has those of
DSFormer.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
from typing import TYPE_CHECKING

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
        return rearrange(scale * mean_over_keys(q, k, v, tokens.query_mask), "b h l d -> b l (h d)")


def mean_over_keys(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Return `1/n_i sum_j (q_i . k_j) v_j` for `q [B, H, Q, d]`, `k`, `v [B, H, L, d]`, `mask [B, 1, Q, L]` bool."""
    scores = (q @ k.transpose(-1, -2)).masked_fill(~mask, 0)  # [B, H, Q, L]
    return (scores @ v) / mask.sum(-1, keepdim=True)  # [B, H, Q, d]


def _softmax(config: ModelConfig) -> SpikeAttention:
    scale = (config.d_model // config.n_heads) ** -0.5
    return SpikeAttention(config.n_heads, scale, config.sim_steps, config.dropout)


register_attention("softmax", _softmax)
register_attention("linear", lambda config: LinearSpikeAttention(config.n_heads, config.sim_steps))
