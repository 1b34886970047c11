"""One transformer block, `x + attention(x)` then `x + mlp(x)`, dense or spiking. B batch, L tokens, D width."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snn_dt.models.attention import ALL, DenseSelfAttention, SpikingSelfAttention
from snn_dt.models.layers import SpikeLinear, spiking_projection
from snn_dt.snn import RateLIF


class Block(nn.Module):
    """Pre-norm residual block; the parts decide whether it spikes."""

    def __init__(self, d_model: int, attention: nn.Module, mlp: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention, self.mlp = attention, mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, read: slice = ALL) -> Tensor:
        """Map `x [B, L, D]` to the tokens chosen by `read`; the others serve as keys and values only."""
        y = x[:, read] + self.dropout(self.attention(self.norm_attention(x), mask, read))
        return y + self.dropout(self.mlp(self.norm_mlp(y)))


def dense_block(d_model: int, n_heads: int, mlp_ratio: int, dropout: float) -> Block:
    """Build the GPT-2 block of the Decision Transformer (ReLU, as in the authors' Gym code)."""
    hidden = mlp_ratio * d_model
    mlp = nn.Sequential(nn.Linear(d_model, hidden), nn.ReLU(), nn.Linear(hidden, d_model))
    return Block(d_model, DenseSelfAttention(d_model, n_heads, dropout), mlp, dropout)


def spiking_block(
    d_model: int, n_heads: int, mlp_ratio: int, dropout: float, neuron: Callable[[], RateLIF], sim_steps: int
) -> Block:
    """Build the SNN-DT block: every weight matrix is fed by the spikes of a LIF layer."""
    hidden = mlp_ratio * d_model
    mlp = nn.Sequential(
        neuron(),
        *spiking_projection(d_model, hidden, neuron, sim_steps),
        SpikeLinear(hidden, d_model, sim_steps),
    )
    return Block(d_model, SpikingSelfAttention(d_model, n_heads, dropout, neuron, sim_steps), mlp, dropout)
