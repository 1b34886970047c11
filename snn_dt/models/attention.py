"""Causal self-attention, dense and spiking.

B batch, L tokens, Q tokens asked for (L or fewer), H heads, D width, T simulation steps.
"""

from __future__ import annotations

from collections.abc import Callable

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.models.layers import SpikeLinear, TimeMean, spiking_projection
from snn_dt.models.tokens import Tokens
from snn_dt.snn import LIF


class SoftmaxAttention(nn.Module):
    """`softmax(scale q k^T) v` per head, over the tokens the mask allows; a module so that its products are counted."""

    def __init__(self, n_heads: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_heads, self.scale, self.dropout = n_heads, scale, dropout

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Mix `v [B, L, D]` for queries `q [B, Q, D]` under `mask [B, 1, Q, L]` (True = may attend)."""
        q, k, v = (rearrange(x, "b l (h d) -> b h l d", h=self.n_heads) for x in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=self.scale)
        return rearrange(y, "b h l d -> b l (h d)")


class SpikeAttention(SoftmaxAttention):
    """Softmax attention over spike counts, from rates of T-step spike trains or from the trains themselves.

    A product with a count is a sum: every spike of q adds a key's count to a score, every spike of v adds a weight.
    """

    def __init__(self, n_heads: int, scale: float, sim_steps: int, dropout: float = 0.0) -> None:
        super().__init__(n_heads, scale * sim_steps**2, dropout)
        self.sim_steps = sim_steps
        self.rate = TimeMean()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """As `SoftmaxAttention`, for rates `[B, L, D]` or spikes `[T, B, L, D]`; returns counts `[B, Q, D]`."""
        return super().forward(self.rate(q), self.rate(k), self.rate(v), mask) * self.sim_steps


class DenseSelfAttention(nn.Module):
    """Multi-head attention as in GPT-2."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.attend = SoftmaxAttention(n_heads, (d_model // n_heads) ** -0.5, dropout)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Map `x [B, L, D]` to `[B, Q, D]`, for the tokens asked for."""
        k, v = self.key_value(x).chunk(2, dim=-1)
        return self.out(self.attend(self.query(x[:, tokens.read]), k, v, tokens.asked))


class SpikingSelfAttention(nn.Module):
    r"""Attention over spike counts (SNN-DT, arXiv 2508.21505, with the causal mask its published code lacks).

    Every weight matrix is fed by spikes: `s = LIF(x)`; `Q, K, V = \sum_T LIF(norm(W s))`, counts in 0..T;
    `Y = softmax(Q K^T / sqrt(d_h)) V`, a constant current for all T steps; out `= W_o LIF(norm(Y))`. Without the norms
    the currents drift out of the range in which a change of return-to-go changes a spike.

    Args:
        d_model, n_heads: width and heads.
        dropout: on the attention weights.
        neuron: makes a `RateLIF` or a `TimedLIF`.
        sim_steps: T.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float, neuron: Callable[[], LIF], sim_steps: int) -> None:
        super().__init__()
        self.lif_in = neuron()
        self.query, self.key, self.value = (spiking_projection(d_model, d_model, neuron, sim_steps) for _ in "qkv")
        self.attend = SpikeAttention(n_heads, (d_model // n_heads) ** -0.5, sim_steps, dropout)
        self.norm = nn.LayerNorm(d_model)
        self.lif_out = neuron()
        self.out = SpikeLinear(d_model, d_model, sim_steps)

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Map `x [(T,) B, L, D]` to `[(T,) B, Q, D]`, for the tokens asked for."""
        s = self.lif_in(x)
        y = self.attend(self.query(s[..., tokens.read, :]), self.key(s), self.value(s), tokens.asked)
        return self.out(self.lif_out(self.norm(y)))
