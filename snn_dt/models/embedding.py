"""Return-to-go, state and action of each step become tokens: the first stop of a batch in the model.

B batch, K context length in steps, D width, L tokens: 3K - 1 interleaved (the last action is never attended to, so it
gets none), K merged.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.models.positions import INITIAL_SCALE
from snn_dt.models.tokens import ALL


class TokenEmbedding(nn.Module):
    """Embed a window, normalised, positions added.

    Interleaved, a step is three tokens: `(R_1, s_1, a_1, ..., R_K, s_K)`, and a prediction is read from `s_t`. Merged,
    it is one, the sum of `R_t`, `s_t` and `a_(t-1)`, each through a linear layer of its own; the action before the
    window is unknown and adds nothing.

    Args:
        state_dim: size of a state.
        action_dim: number of discrete actions, or of action dimensions.
        discrete: whether actions are indices.
        d_model: width D.
        positions: module `timesteps [B, K] -> [B, K, D]`, or None.
        merged: one token per step.
        rtg_range: lowest and highest scaled return-to-go of the training data. Beyond it lies nothing that was learned,
            and a policy gets there whenever it does worse than it was asked to, so `rtg` is clamped to it. A range of
            one value makes the policy deaf to what it is asked for.

    Attributes:
        read: the tokens that predictions are read from.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        d_model: int,
        positions: nn.Module | None,
        merged: bool = False,
        rtg_range: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        self.rtg_range = rtg_range
        self.rtg = nn.Linear(1, d_model)
        self.state = nn.Linear(state_dim, d_model)
        self.action = nn.Embedding(action_dim, d_model) if discrete else nn.Linear(action_dim, d_model)
        self.positions = positions
        self.norm = nn.LayerNorm(d_model)
        self.merged = merged
        self.query_slice = ALL if merged else slice(1, None, 3)
        if merged:
            self._balance()

    def forward(self, rtg: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor, mask: Tensor) -> Tensor:
        """Return tokens `[B, L, D]`; `mask [B, K]` is False on pads."""
        if self.rtg_range is not None:
            rtg = rtg.clamp(*self.rtg_range)
        rtg, states, actions = self.rtg(rtg), self.state(states), self.action(actions)
        position = None if self.positions is None else self.positions(timesteps)
        if self.merged:
            actions = actions.masked_fill(~mask.unsqueeze(-1), 0)
            x = rtg + states + F.pad(actions[:, :-1], (0, 0, 1, 0))  # a_(t-1) beside s_t
            return self.norm(x if position is None else x + position)
        parts = torch.stack([rtg, states, actions], dim=2)
        parts = parts if position is None else parts + position.unsqueeze(2)
        return self.norm(rearrange(parts, "b k part d -> b (k part) d")[:, :-1])

    @torch.no_grad()
    def _balance(self) -> None:
        """Let no part of a sum drown the return-to-go: a policy that does not hear it ignores what it is asked for.

        Returns-to-go spread over about a quarter of their range, states have unit deviation, and actions, which tell
        almost as much about who acted, start small. With torch's own first weights all kinds of model returned 500 on
        CartPole whatever they were asked for, with these 32 to 37 at a target of 29.
        """
        low, high = self.rtg_range or (0.0, 1.0)
        bound = 4 / (high - low) if high > low else 0.0
        nn.init.uniform_(self.rtg.weight, -bound, bound)
        nn.init.normal_(self.action.weight, std=INITIAL_SCALE)

    def n_tokens(self, context_length: int) -> int:
        """Return L of a window of `context_length` steps."""
        return context_length if self.merged else 3 * context_length - 1

    def per_token(self, x: Tensor) -> Tensor:
        """Give each token what its step has: `[B, K, ...] -> [B, L, ...]`."""
        return x if self.merged else x.repeat_interleave(3, dim=1)[:, :-1]


def widen_returns(model: nn.Module, low: float, high: float) -> None:
    """Let a model hear of scaled returns-to-go from `low` to `high` too, now that it has learned from such episodes.

    `model.task`, which a checkpoint keeps, says so as well. Nothing changes for what is inside of the range it knew,
    nor for a model that is deaf to returns.
    """
    known: Any = model
    config, task, embedding = known.config, known.task, known.embedding
    if not config.return_conditioned or task.rtg_range is None:
        return
    low, high = min(low, task.rtg_range[0]), max(high, task.rtg_range[1])
    quantiles = task.rtg_quantiles
    if quantiles is not None:  # their ends alone: those between them stand for units that have been placed
        quantiles = (min(low, quantiles[0]), *quantiles[1:-1], max(high, quantiles[-1]))
    known.task = replace(task, rtg_range=(low, high), rtg_quantiles=quantiles)
    if isinstance(embedding, TokenEmbedding):
        embedding.rtg_range = (low, high)
    else:
        embedding.code.low, embedding.code.high = (quantiles or (low, high))[0], (quantiles or (low, high))[-1]
