"""The streaming policy: a spiking sequence model whose time is the trajectory, at one constant cost per decision.

B batch, K steps of a sequence (any number), D width, A action dimensions or number of discrete actions. Inside, time
comes first: `[K, B, ...]`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.decision_transformer import TaskShape
from snn_dt.models.layers import ActionHead
from snn_dt.models.stream_block import State, StreamBlock
from snn_dt.models.stream_embedding import StreamEmbedding


class StreamTransformer(nn.Module):
    """Causal model of actions, `p(a_t | R_<=t, s_<=t, a_<t)`, with a state of constant size instead of a window.

    One token per step is one step of every neuron: membranes and the sums of attention go on from token to token. All
    steps of a sequence at once (`forward`) and one after the other (`scan` from state to state) give the same
    predictions. Nothing depends on the timestep, so a policy may run for ever.

    A state is a dictionary of tensors `[B, ...]`, all zero at rest: rows set to zero begin a new episode.

    Attributes:
        state_dim, action_dim, discrete: what a batch must look like.
        context_length: steps of a training window; a decision looks back on all of the episode.
        tokens_first: inside, tensors are `[K, B, D]`.
        config, task: what it was built from, nulls resolved.
    """

    tokens_first = True

    def __init__(self, config: ModelConfig, task: TaskShape) -> None:
        super().__init__()
        config = config.resolved()
        self.config, self.task = config, task
        self.state_dim, self.action_dim, self.discrete = task.state_dim, task.action_dim, task.discrete
        self.context_length = config.context_length
        self.embedding = StreamEmbedding(
            task.state_dim,
            task.action_dim,
            task.discrete,
            config.d_model,
            (task.rtg_quantiles or task.rtg_range) if config.return_conditioned else (0.0, 0.0),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(StreamBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        bounds = [None if b is None else torch.tensor(b) for b in (task.action_low, task.action_high)]
        self.head = ActionHead(config.d_model, task.action_dim, *bounds)

    def forward(
        self,
        rtg: Tensor,
        states: Tensor,
        actions: Tensor,
        timesteps: Tensor | None,
        attention_mask: Tensor,
        last_only: bool = False,
        state: State | None = None,
        carry: bool = False,
    ) -> Any:
        """Predict the action of every step, or of the last one.

        Args:
            rtg, states, actions, attention_mask, last_only: as in `DecisionTransformer`, K steps of any number; pads
                come before the first step of an episode. The last action is not looked at.
            timesteps: not looked at.
            state: where the sequence goes on from; None is rest, the beginning of an episode.
            carry: return the state after the last step too.

        Returns:
            `[B, K, A]` (`[B, 1, A]` if `last_only`): actions in environment units, or logits if discrete; with
            `carry`, that and the next state.
        """
        old = {} if state is None else state
        begun = old.get("begun", torch.zeros_like(attention_mask[:, 0]))
        first = old.get("action", torch.zeros_like(actions[:, 0]))
        new = {"begun": attention_mask[:, -1], "action": actions[:, -1]}
        known = torch.cat([begun[:, None], attention_mask[:, :-1]], 1).t().unsqueeze(-1)
        previous = torch.cat([first[:, None], actions[:, :-1]], 1).transpose(0, 1)
        real = attention_mask.t().unsqueeze(-1)
        x = self.dropout(self.embedding(rtg.transpose(0, 1), states.transpose(0, 1), previous, known))
        for i, block in enumerate(self.blocks):
            x, parts = block(x, real, {name: old.get(f"blocks.{i}.{name}") for name in block.state})
            new |= {f"blocks.{i}.{name}": part for name, part in parts.items()}
        predictions = self.head(self.norm(x[-1:] if last_only else x)).transpose(0, 1)
        return (predictions, new) if carry else predictions

    def scan(
        self, rtg: Tensor, states: Tensor, actions: Tensor, attention_mask: Tensor, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Advance over K steps: return predictions `[B, K, A]` and the next state.

        Whoever decides on the last action writes it into the next state: `state["action"] = action`.
        """
        result: tuple[Tensor, State] = self(rtg, states, actions, None, attention_mask, state=state, carry=True)
        return result

    def step(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by one real step, `rtg [B, 1]`, `states [B, state_dim]`: predictions `[B, A]` and the next state."""
        actions = torch.zeros_like(state["action"]).unsqueeze(1)
        mask = torch.ones(len(rtg), 1, dtype=torch.bool, device=rtg.device)
        predictions, state = self.scan(rtg.unsqueeze(1), states.unsqueeze(1), actions, mask, state)
        return predictions[:, 0], state

    def rest(self, n: int) -> State:
        """Return the state of `n` rows at the beginning of an episode, all zero."""
        weight = self.embedding.state.weight
        action = weight.new_zeros(n, dtype=torch.int64) if self.discrete else weight.new_zeros(n, self.action_dim)
        state = {"begun": weight.new_zeros(n, dtype=torch.bool), "action": action}
        for i, block in enumerate(self.blocks):
            state |= {f"blocks.{i}.{name}": weight.new_zeros(n, *shape) for name, shape in block.state.items()}
        return state

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Return which tokens are no pads, `[B, K] -> [B, K]`."""
        return attention_mask
