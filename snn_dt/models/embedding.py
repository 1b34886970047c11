"""Return-to-go, state and action of each step become three tokens: the first stop of a batch in the model.

B batch, K context length in steps, D width, L = 3K - 1 tokens: the last action is never attended to, so it gets none.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn


class TokenEmbedding(nn.Module):
    """Embed a window and interleave it as `(R_1, s_1, a_1, ..., R_K, s_K)`, normalised, positions added.

    Args:
        state_dim: size of a state.
        action_dim: number of discrete actions, or of action dimensions.
        discrete: whether actions are indices.
        d_model: width D.
        positions: module `timesteps [B, K] -> [B, K, D]`.
    """

    def __init__(self, state_dim: int, action_dim: int, discrete: bool, d_model: int, positions: nn.Module) -> None:
        super().__init__()
        self.rtg = nn.Linear(1, d_model)
        self.state = nn.Linear(state_dim, d_model)
        self.action = nn.Embedding(action_dim, d_model) if discrete else nn.Linear(action_dim, d_model)
        self.positions = positions
        self.norm = nn.LayerNorm(d_model)

    def forward(self, rtg: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor) -> Tensor:
        """Return tokens `[B, 3K - 1, D]`."""
        position = self.positions(timesteps)
        parts = torch.stack([self.rtg(rtg), self.state(states), self.action(actions)], dim=2) + position.unsqueeze(2)
        return self.norm(rearrange(parts, "b k part d -> b (k part) d")[:, :-1])


def causal_mask(attention_mask: Tensor) -> Tensor:
    """Return which token may attend to which: `[B, K] bool -> [B, 1, L, L] bool`, True where allowed.

    A token attends to itself and to earlier tokens of real steps. A pad attends to itself too, which keeps its softmax
    finite; nobody reads the result.
    """
    real = attention_mask.repeat_interleave(3, dim=1)[:, :-1]
    length = real.shape[1]
    index = torch.arange(length, device=real.device)
    earlier = index[None, :] < index[:, None]
    itself = index[None, :] == index[:, None]
    return ((earlier & real[:, None, :]) | itself).unsqueeze(1)
