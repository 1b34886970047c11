"""Self-attention as a block sees it, dense and spiking; what mixes the tokens is in `mixing.py`.

B batch, L tokens, Q tokens asked for (L or fewer), D width, T simulation steps.
"""

from __future__ import annotations

from torch import Tensor, nn

from snn_dt.models.layers import through
from snn_dt.models.mixing import SoftmaxAttention
from snn_dt.models.tokens import Tokens


class DenseSelfAttention(nn.Module):
    """Multi-head attention behind a layer norm, as in GPT-2."""

    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.attend = SoftmaxAttention(n_heads, (d_model // n_heads) ** -0.5, dropout)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Map `x [B, L, D]` to `[B, Q, D]`, for the tokens asked for."""
        x = self.norm(x)
        k, v = self.key_value(x).chunk(2, dim=-1)
        return self.out(self.attend(self.query(x[:, tokens.query_slice]), k, v, tokens))


class SpikingSelfAttention(nn.Module):
    r"""Spikes in, three spiking projections, a mix of tokens, spikes out through a linear layer.

    ```
    s = LIF(x);  Q, K, V = LIF(W s);  Y = attend(Q, K, V);  out = W_o LIF(route(Y))
    ```

    Every weight matrix is fed by spikes. The modules it is given make the kinds (`blocks.py`); where their norms are,
    in the neurons or between linear and neurons, is theirs to know.
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

    def forward(self, x: Tensor, tokens: Tokens) -> Tensor:
        """Map `x [(T,) B, L, D]` to `[(T,) B, Q, D]`, for the tokens asked for."""
        asked = tokens.valid[:, tokens.query_slice]
        s = self.lif_in(x)
        q = through(self.query, s[..., tokens.query_slice, :], asked)
        k, v = through(self.key, s, tokens.valid), through(self.value, s, tokens.valid)
        if tokens.gate is not None:
            q, k, v = q * tokens.gate[:, tokens.query_slice], k * tokens.gate, v * tokens.gate
        y = self.route(self.attend(q, k, v, tokens))
        return through(self.out, self.lif_out(y), asked)
