"""The two forms of attention of DSFormer (arXiv 2504.03800).

B batch, L tokens, Q query tokens (L or fewer), H heads, D width, d = D / H, T simulation steps.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn

from snn_dt.models.mixing import mean_over_keys
from snn_dt.models.tokens import Tokens

if TYPE_CHECKING:
    from jaxtyping import Float


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
        y = mean_over_keys(q, k, v, tokens.query_mask) * (self.log_scale.exp() / q.shape[-1]).view(-1, 1, 1)
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
