"""Embed a window: return-to-go, state and action of each step become tokens.

B batch, K context length in steps, D width, L tokens. L is K for merged tokens and 3K - 1 for interleaved ones. The
last action has no token, because no prediction depends on it.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.models.encoders import ImageEncoder
from snn_dt.models.positions import INITIAL_SCALE
from snn_dt.models.return_code import RETURN_UNITS, ReturnCode
from snn_dt.models.tokens import ALL_TOKENS


class TokenEmbedding(nn.Module):
    """Embed a window, add positions and normalise the tokens.

    Interleaved: three tokens per step, `(R_1, s_1, a_1, ..., R_K, s_K)`. The prediction is read from `s_t`.

    Merged: one token per step. It is the sum of linear maps of `R_t`, `s_t` and `a_(t-1)`. The action before the window
    is unknown and adds 0.

    Args:
        state_dim: size of a state.
        action_dim: number of discrete actions or of action dimensions.
        discrete: whether actions are indices.
        d_model: width D.
        positions: module `timesteps [B, K] -> [B, K, D]` or None.
        merged: one token per step.
        rtg_range: lowest and highest scaled return-to-go of the training data. `rtg` is clamped to this range, because
            a policy that falls behind its target leaves it. Equal bounds disable return conditioning.
        return_code: code of the return-to-go before its linear map. None: the map reads the number itself. Behind the
            layer norm a large number then hardly moves the token: 3285 and 3624 on Hopper differ by 2 % of its norm.
        goal_columns: the desired goal in a state, whose linear map is added to that of the return-to-go.
        reads_return: False: the map of the desired goal alone stands in place of that of the return-to-go.
        encoder: maps states of bytes to features.

    Attributes:
        query_slice: tokens that predictions are read from.
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
        return_code: ReturnCode | None = None,
        goal_columns: slice | None = None,
        reads_return: bool = True,
        encoder: ImageEncoder | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rtg_range, self.goal_columns = rtg_range, goal_columns
        self.rtg: Any = nn.Linear(1, d_model) if reads_return else None
        if return_code is not None and reads_return:
            self.rtg = nn.Sequential(return_code, nn.Linear(RETURN_UNITS, d_model))
        self.goal = None if goal_columns is None else nn.Linear(goal_columns.stop - goal_columns.start, d_model)
        self.state = nn.Linear(state_dim if encoder is None else encoder.out_features, d_model)
        self.action = nn.Embedding(action_dim, d_model) if discrete else nn.Linear(action_dim, d_model)
        self.positions = positions
        self.norm = nn.LayerNorm(d_model)
        self.merged = merged
        self.query_slice = ALL_TOKENS if merged else slice(1, None, 3)
        if merged:
            self._balance()

    def forward(self, rtg: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor, mask: Tensor) -> Tensor:
        """Return tokens `[B, L, D]`; `mask [B, K]` is False on pads.

        A decision at step t embeds its new tokens only. `rtg` and `states` are then those of step t (K = 1), `actions`
        that of step t - 1, and `mask` and `timesteps` are `[B, 2]` (`timesteps [B, 1]` if merged), of both steps.
        """
        if self.encoder is not None and states.dtype == torch.uint8:
            states = self.encoder(states)  # [B, K, S] -> [B, K, d + D]; otherwise they are features already
        rtg, states, actions = self._asked(rtg, states), self.state(states), self.action(actions)  # [B, K, D] each
        position = None if self.positions is None else self.positions(timesteps)  # [B, K, D]
        if mask.shape[1] > states.shape[1]:
            return self._new_tokens(rtg, states, actions, position, mask)
        if self.merged:
            # The embedding of a pad is not 0 and must not reach the first real step.
            actions = actions.masked_fill(~mask.unsqueeze(-1), 0)
            x = rtg + states + F.pad(actions[:, :-1], (0, 0, 1, 0))  # a_(t-1) is added to s_t; [B, K, D]
            x = x if position is None else x + position
        else:
            parts = torch.stack([rtg, states, actions], dim=2)  # [B, K, 3, D]
            parts = parts if position is None else parts + position.unsqueeze(2)  # [B, K, 1, D] is added
            # [B, K, 3, D] -> [B, 3K, D]; the last action has no token: [B, L, D]
            x = rearrange(parts, "b k part d -> b (k part) d")[:, :-1]
        tokens: Tensor = self.norm(x)
        return tokens

    def _asked(self, rtg: Tensor, states: Tensor) -> Tensor:
        """Return the token `[B, K, D]` of what is asked of the policy: a return, a desired goal, or their sum."""
        parts = []
        if self.rtg is not None:
            parts.append(self.rtg(rtg if self.rtg_range is None else rtg.clamp(*self.rtg_range)))
        if self.goal is not None:
            parts.append(self.goal(states[..., self.goal_columns]))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _new_tokens(
        self, rtg: Tensor, states: Tensor, previous: Tensor, position: Tensor | None, mask: Tensor
    ) -> Tensor:
        """Return the tokens `(a_(t-1), R_t, s_t)` of a decision, or one merged token, `[B, 3 or 1, D]`."""
        if self.merged:
            x = rtg + states + previous.masked_fill(~mask[:, :1, None], 0)  # [B, 1, D]
        else:
            x = torch.cat([previous, rtg, states], 1)  # [B, 3, D]
        if position is not None:
            x = x + self.per_token(position)[:, -self.per_step :]  # that of t - 1 for the action
        tokens: Tensor = self.norm(x)
        return tokens

    @property
    def per_step(self) -> int:
        """Number of tokens of a step."""
        return 1 if self.merged else 3

    @torch.no_grad()
    def _balance(self) -> None:
        """Scale the initial weights so that the return-to-go is visible in the sum.

        The standard deviation of a return-to-go is about a quarter of its range. That of a state is 1. Actions identify
        the acting policy almost as well as the return does, so their weights start small. With torch's default
        initialisation all kinds of models returned 500 on CartPole at any target. With this one they returned 32 to 37
        at a target of 29.
        """
        low, high = self.rtg_range or (0.0, 1.0)
        bound = 4 / (high - low) if high > low else 0.0
        if isinstance(self.rtg, nn.Linear):
            nn.init.uniform_(self.rtg.weight, -bound, bound)
        nn.init.normal_(self.action.weight, std=INITIAL_SCALE)

    def n_tokens(self, context_length: int) -> int:
        """Return the number of tokens L for a window of `context_length` steps."""
        return context_length if self.merged else 3 * context_length - 1

    def per_token(self, x: Tensor) -> Tensor:
        """Repeat the value of each step for its tokens: `[B, K, ...] -> [B, L, ...]`."""
        return x if self.merged else x.repeat_interleave(3, dim=1)[:, :-1]  # [B, 3K, ...] -> [B, 3K - 1, ...]
