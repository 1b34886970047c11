"""Decision Transformer (Chen et al. 2021, arXiv 2106.01345) and its spiking counterparts, which differ in the block.

B batch, K context length in steps, L tokens, D width, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.blocks import build_block
from snn_dt.models.embedding import TokenEmbedding
from snn_dt.models.heads import build_head
from snn_dt.models.interface import TaskShape
from snn_dt.models.layers import TimeMean
from snn_dt.models.positions import PhaseGate, build_phase, build_positions
from snn_dt.models.tokens import Tokens, causal_mask


class DecisionTransformer(nn.Module):
    """Causal sequence model of actions `p(a_t | R_<=t, s_<=t, a_<t)`.

    The prediction for step t is read from its state token, so it cannot depend on `a_t` or later inputs.

    Attributes:
        config, task: configuration and task shape that the model was built from. Nulls are resolved.
        state_dim, action_dim, discrete, context_length: sizes of a batch.
    """

    streams = False

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
        self.head = build_head(config, task)

    def forward(
        self,
        rtg: Tensor,
        states: Tensor,
        actions: Tensor,
        timesteps: Tensor,
        attention_mask: Tensor,
        last_only: bool = False,
    ) -> Tensor:
        """Predict the action of every step or only of the last one. `SequenceModel.forward` lists the shapes."""
        x = self.dropout(self.embedding(rtg, states, actions, timesteps, attention_mask))  # [B, L, D]
        tokens = self._tokens(timesteps, attention_mask)
        for block in self.blocks[:-1]:
            x = block(x, tokens)
        # Predictions are read from the state tokens, so the last block computes only these.
        queries = slice(-1, None) if last_only else self.embedding.query_slice
        x = self.blocks[-1](x, replace(tokens, query_slice=queries))  # [(T,) B, K, D], or [(T,) B, 1, D]
        prediction: Tensor = self.head(self.norm(self.time_mean(x)))  # [B, K, A], or [B, 1, A]
        return prediction

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Return which tokens belong to real steps: `[B, K] -> [B, L]`."""
        return self.embedding.per_token(attention_mask)

    def _tokens(self, timesteps: Tensor, attention_mask: Tensor) -> Tokens:
        valid = self.token_mask(attention_mask)
        gate = None if self.phase_gate is None else self.embedding.per_token(self.phase_gate(timesteps))  # [B, L, D]
        return Tokens(valid, causal_mask(valid), gate=gate)
