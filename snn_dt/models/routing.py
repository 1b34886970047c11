"""Dendritic routing: a sum of the attention heads with learned gates. H heads, D width."""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
from typing import TYPE_CHECKING

from einops import rearrange
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


class DendriticRouting(nn.Module):
    r"""`y = \sum_h alpha_h y_h`, `alpha = sigmoid(W [mean(y_1) .. mean(y_H)] + b)` (SNN-DT, arXiv 2508.21505).

    The gates are computed per token from all heads. The head currents `y_h [D / H]` are summed before the neuron that
    reads them. The output projection behind that neuron restores the width D. The published code repeats the sum H
    times instead. `gate` is a separate module so that a hook can record `alpha [..., H]`.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.gate = nn.Sequential(nn.Linear(n_heads, n_heads), nn.Sigmoid())

    def forward(self, y: Float[Tensor, "*T B Q D"]) -> Float[Tensor, "*T B Q d"]:
        """Map `[..., D]` to `[..., D / H]`."""
        heads = rearrange(y, "... (h d) -> ... h d", h=self.n_heads)  # [..., D] -> [..., H, D / H]
        alpha = self.gate(heads.mean(-1))  # [..., H]
        return (alpha.unsqueeze(-1) * heads).sum(-2)  # [..., D / H]
