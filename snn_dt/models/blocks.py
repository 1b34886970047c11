"""One transformer block, `x + attention(x)` then `x + mlp(x)`, dense or spiking.

B batch, L tokens, D width, T simulation steps; `[(T,) B, L, D]` has a time axis or not, see `layers.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from snn_dt.models.attention import DenseSelfAttention, SpikingSelfAttention
from snn_dt.models.layers import SpikeLinear, TimeMean, spiking_projection
from snn_dt.models.tokens import Tokens
from snn_dt.snn import LIF


class Block(nn.Module):
    """Pre-norm residual block; the parts decide whether it spikes."""

    def __init__(self, d_model: int, attention: nn.Module, mlp: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.attention, self.mlp = attention, mlp
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Map `x [(T,) B, L, D]` to the tokens asked for."""
        y = x[..., tokens.read, :] + self.dropout(self.attention(self.norm_attention(x), tokens))
        branch = self.dropout(self.mlp(self.norm_mlp(y)))
        return branch + (y.mean(0) if branch.dim() < y.dim() else y)


def dense_block(d_model: int, n_heads: int, mlp_ratio: int, dropout: float) -> Block:
    """Build the GPT-2 block of the Decision Transformer (ReLU, as in the authors' Gym code)."""
    hidden = mlp_ratio * d_model
    mlp = nn.Sequential(nn.Linear(d_model, hidden), nn.ReLU(), nn.Linear(hidden, d_model))
    return Block(d_model, DenseSelfAttention(d_model, n_heads, dropout), mlp, dropout)


def spiking_block(
    d_model: int,
    n_heads: int,
    mlp_ratio: int,
    dropout: float,
    neuron: Callable[[], LIF],
    sim_steps: int,
    last: bool = False,
) -> Block:
    """Build the SNN-DT block: every weight matrix is fed by the spikes of a LIF layer.

    Of the `last` block only the mean over simulation time is read, and `mean(W s_t) = W mean(s_t)`: its last linear
    layer takes the mean of its spikes, once.
    """
    hidden = mlp_ratio * d_model

    def hidden_neuron() -> nn.Module:
        return nn.Sequential(neuron(), TimeMean()) if last else neuron()

    mlp = nn.Sequential(
        neuron(),
        *spiking_projection(d_model, hidden, hidden_neuron, sim_steps),
        SpikeLinear(hidden, d_model, sim_steps),
    )
    return Block(d_model, SpikingSelfAttention(d_model, n_heads, dropout, neuron, sim_steps), mlp, dropout)
