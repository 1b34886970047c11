"""Self-attention of a block, dense and spiking: projections around a mixing form of `mixing.py`; dendritic routing.

B batch, L tokens, Q query tokens (L or fewer), H heads, D width, T simulation steps.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
from typing import TYPE_CHECKING

from einops import rearrange
from torch import Tensor, nn

from snn_dt.models.layers import MaskedSequential
from snn_dt.models.mixing import SoftmaxAttention
from snn_dt.models.tokens import Tokens

if TYPE_CHECKING:
    from jaxtyping import Float


class DenseSelfAttention(nn.Module):
    """Pre-norm multi-head attention as in GPT-2."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.attend = SoftmaxAttention(n_heads, (d_model // n_heads) ** -0.5, dropout)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Float[Tensor, "B L D"], tokens: Tokens) -> Float[Tensor, "B Q D"]:
        """Map `x [B, L, D]` to the query tokens `[B, Q, D]`."""
        x = self.norm(x)
        k, v = tokens.keys_and_values(*self.key_value(x).chunk(2, dim=-1))  # [B, L, D] each
        # Predictions are read from query tokens only, so no other queries are computed.
        return self.out(self.attend(self.query(x[:, tokens.query_slice]), k, v, tokens))


class SpikingSelfAttention(nn.Module):
    r"""Spiking self-attention: spiking projections, attention, spiking neurons and a linear output layer.

    ```
    s = LIF(x);  Q, K, V = LIF(W s);  Y = attend(Q, K, V);  out = W_o LIF(route(Y))
    ```

    The input of every weight matrix is spikes. `blocks.py` selects the modules. Each applies its own normalisation.
    """

    def __init__(
        self,
        lif_in: nn.Module,
        query: nn.Module,
        key: nn.Module,
        value: nn.Module,
        attend: nn.Module,
        route: nn.Module,
        lif_out: nn.Module,
        out: nn.Module,
    ) -> None:
        super().__init__()
        self.lif_in, self.query, self.key, self.value = lif_in, query, key, value
        self.attend, self.route, self.lif_out, self.out = attend, route, lif_out, out

    def forward(self, x: Float[Tensor, "*T B L D"], tokens: Tokens) -> Float[Tensor, "*t B Q D"]:
        """Map `x [(T,) B, L, D]` to the query tokens `[(T,) B, Q, D]`."""
        valid_queries = tokens.valid[:, tokens.query_slice]  # [B, Q]
        s = self.lif_in(x)  # [(T,) B, L, D], as all that follows
        q = MaskedSequential.call(self.query, s[..., tokens.query_slice, :], valid_queries)
        k, v = MaskedSequential.call(self.key, s, tokens.valid), MaskedSequential.call(self.value, s, tokens.valid)
        if tokens.gate is not None:  # phase-shifted spikes [B, L, D] that cut spikes off
            q, k, v = q * tokens.gate[:, tokens.query_slice], k * tokens.gate, v * tokens.gate
        k, v = tokens.keys_and_values(k, v)
        y = self.route(self.attend(q, k, v, tokens))
        return MaskedSequential.call(self.out, self.lif_out(y), valid_queries)


class DendriticRouting(nn.Module):
    r"""`y = \sum_h alpha_h y_h`, `alpha = sigmoid(W [mean(y_1) .. mean(y_H)] + b)` (SNN-DT, arXiv 2508.21505).

    Per token, from all heads. The currents of the heads `y_h [D / H]` are summed before the neuron that reads them, and
    the output projection behind that neuron restores the width D (the published code repeats the sum H times).
    `gate` is a module of its own, so that a hook sees `alpha [..., H]`.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.gate = nn.Sequential(nn.Linear(n_heads, n_heads), nn.Sigmoid())

    def forward(self, y: Float[Tensor, "*T B Q D"]) -> Float[Tensor, "*T B Q d"]:
        """Map `[..., D]` to `[..., D / H]`."""
        heads = rearrange(y, "... (h d) -> ... h d", h=self.n_heads)
        alpha = self.gate(heads.mean(-1))  # [..., H]
        return (alpha.unsqueeze(-1) * heads).sum(-2)  # [..., D / H]
