"""The Decision Transformer (Chen et al. 2021, arXiv 2106.01345) and its spiking counterpart: one shell, two blocks.

B batch, K context length in steps, L tokens, D width, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from snn_dt.config import ModelConfig
from snn_dt.models.blocks import build_block
from snn_dt.models.embedding import TokenEmbedding
from snn_dt.models.graphed_decision import GraphedDecision
from snn_dt.models.heads import build_head
from snn_dt.models.last_token import LastToken
from snn_dt.models.layers import TimeMean
from snn_dt.models.positions import PhaseGate, build_phase, build_positions
from snn_dt.models.tokens import Tokens, causal_mask


@dataclass(frozen=True)
class TaskShape:
    """What a model must know of its task: sizes, kind and bounds of actions, longest episode."""

    state_dim: int
    action_dim: int
    """Action dimensions, or number of discrete actions."""
    discrete: bool
    n_timesteps: int
    """Environment steps of the longest episode."""
    action_low: tuple[float, ...] | None = None
    action_high: tuple[float, ...] | None = None
    """Bounds of continuous actions in environment units; None where they have none."""
    rtg_range: tuple[float, ...] | None = None
    """Lowest and highest scaled return-to-go of the training data."""
    rtg_quantiles: tuple[float, ...] | None = None
    """Its quantiles, at equal steps of probability from 0 to 1."""


class DecisionTransformer(nn.Module):
    """Causal sequence model of actions: `p(a_t | R_<=t, s_<=t, a_<t)`.

    The prediction for step t is read from its state token, so it cannot see `a_t` or anything later.

    Attributes:
        state_dim, action_dim, discrete, context_length: what a batch must look like.
        config, task: what it was built from, nulls resolved.
    """

    def __init__(self, config: ModelConfig, task: TaskShape) -> None:
        super().__init__()
        config = config.resolved()
        self.config, self.task = config, task
        self.state_dim, self.action_dim, self.discrete = task.state_dim, task.action_dim, task.discrete
        self.context_length = config.context_length
        self.embedding = TokenEmbedding(
            task.state_dim,
            task.action_dim,
            task.discrete,
            config.d_model,
            build_positions(config, task.n_timesteps),
            merged=config.tokens == "merged",
            rtg_range=task.rtg_range if config.return_conditioned else (0.0, 0.0),
        )
        self.phase_gate = build_phase(config, task.n_timesteps, PhaseGate) if config.phase_input == "gate" else None
        self.dropout = nn.Dropout(config.dropout)
        n_tokens, last = self.embedding.n_tokens(config.context_length), config.n_layers - 1
        self.blocks = nn.ModuleList(build_block(config, n_tokens, i == last) for i in range(config.n_layers))
        self.time_mean = TimeMean()
        self.norm = nn.LayerNorm(config.d_model)
        bounds = [None if b is None else torch.tensor(b) for b in (task.action_low, task.action_high)]
        self.head = build_head(config, task.action_dim, task.discrete, *bounds)
        self._last_token, self._replayed = LastToken(), GraphedDecision()

    def forward(
        self,
        rtg: Tensor,
        states: Tensor,
        actions: Tensor,
        timesteps: Tensor,
        attention_mask: Tensor,
        last_only: bool = False,
    ) -> Tensor:
        """Predict the action of every step, or of the last one.

        Args:
            rtg: return-to-go over its scale, `[B, K, 1]`.
            states: normalised, `[B, K, state_dim]`.
            actions: `[B, K, A]` float in environment units, or `[B, K]` int64 from 0.
            timesteps: index in the episode, `[B, K]` int64.
            attention_mask: `[B, K]` bool, False on pads.
            last_only: compute only what the last step's prediction needs.

        Returns:
            `[B, K, A]` (`[B, 1, A]` if `last_only`): actions in environment units, or logits if discrete.
        """
        inputs = rtg, states, actions, timesteps, attention_mask
        if last_only and (decision := self._replayed(self, inputs)) is not None:
            return decision
        return self._predict(*inputs, last_only=last_only)

    def _predict(
        self, rtg: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor, attention_mask: Tensor, last_only: bool
    ) -> Tensor:
        x = self.dropout(self.embedding(rtg, states, actions, timesteps, attention_mask))
        real = self.token_mask(attention_mask)
        if last_only and self.phase_gate is None and (last := self._last_token(self, x, real)) is not None:
            return self.head(self.norm(last))
        gate = None if self.phase_gate is None else self.embedding.per_token(self.phase_gate(timesteps))
        tokens = Tokens(real, causal_mask(real), gate=gate)
        for block in self.blocks[:-1]:
            x = block(x, tokens)
        # The last block is asked for no other tokens than those a prediction is read from.
        x = self.blocks[-1](
            x, replace(tokens, query_slice=slice(-1, None) if last_only else self.embedding.query_slice)
        )
        return self.head(self.norm(self.time_mean(x)))

    def train(self, mode: bool = True) -> DecisionTransformer:
        """Switch to training or, with `mode` False, to evaluation; what was prepared for decisions is forgotten."""
        self._last_token, self._replayed = LastToken(), GraphedDecision()
        return super().train(mode)

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Return which tokens are no pads, `[B, K] -> [B, L]`."""
        return self.embedding.per_token(attention_mask)
