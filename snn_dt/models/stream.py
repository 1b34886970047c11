"""Streaming model: a spiking sequence model that advances every neuron by one step per environment step.

The cost of a decision is constant during an episode.

B batch, K steps of a sequence (any number), D width, A action dimensions or number of discrete actions. Inside the
model time comes first: `[K, B, ...]`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.encoders import build_encoder
from snn_dt.models.goals import add_goals, end_goals, give_goals
from snn_dt.models.heads import linear_head
from snn_dt.models.interface import State, TaskShape, desired_goal
from snn_dt.models.return_code import ReturnCode, build_return_code
from snn_dt.models.spread import build_spread
from snn_dt.models.stream_block import StreamBlock
from snn_dt.models.stream_embedding import StreamEmbedding


class StreamTransformer(nn.Module):
    """Causal model of actions `p(a_t | R_<=t, s_<=t, a_<t)` with a state of constant size instead of a window.

    Each step is one token and advances every neuron once. The state consists of the membranes and the sums of
    attention. `forward` over a sequence and `step` from state to state give the same predictions. Nothing depends on
    the timestep, so episodes can have any length.

    A state is a dictionary of tensors `[B, ...]` that are zero at rest. Setting a row to zero begins a new episode.

    Attributes:
        config, task: configuration and task shape that the model was built from. Nulls are resolved.
        state_dim, action_dim, discrete: sizes of a batch.
        context_length: steps of a training window. A decision depends on the whole episode.
    """

    streams = True
    goal_edges: Tensor | None

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
            None if config.condition == "goal" else build_return_code(config, task) or ReturnCode(None),
            desired_goal(config, task),
            build_encoder(config, task),
        )
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(StreamBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = linear_head(config, task)
        self.spread = build_spread(config, task)
        add_goals(self, config, task)

    def forward(
        self,
        rtg: Tensor,
        states: Tensor,
        actions: Tensor,
        timesteps: Tensor | None,
        attention_mask: Tensor,
        goal: Tensor | None = None,
        last_only: bool = False,
        state: State | None = None,
        carry: bool = False,
    ) -> Any:
        """Predict the action of every step or only of the last one. `SequenceModel.forward` lists the shapes.

        Args:
            rtg, states, actions, attention_mask, goal, last_only: inputs of K steps (any number). The last action is
                ignored.
            timesteps: not used.
            state: the state before the first step. None is rest.
            carry: also return the state after the last step.

        Returns:
            The predictions. With `carry` also the next state.
        """
        old = {} if state is None else state
        begun = old.get("begun", torch.zeros_like(attention_mask[:, 0]))
        first = old.get("action", torch.zeros_like(actions[:, 0]))
        new = {"begun": attention_mask[:, -1], "action": actions[:, -1]}
        # The token of a step holds the previous action, which is unknown at the beginning of an episode.
        known = torch.cat([begun[:, None], attention_mask[:, :-1]], 1).t().unsqueeze(-1)  # [K, B, 1]
        previous = torch.cat([first[:, None], actions[:, :-1]], 1).transpose(0, 1)  # [K, B(, A)]
        valid = attention_mask.t().unsqueeze(-1)  # [K, B, 1]
        if self.goal_edges is not None:
            give_goals(self, goal, tokens_first=True)
        x = self.dropout(self.embedding(rtg.transpose(0, 1), states.transpose(0, 1), previous, known))  # [K, B, D]
        blocks: Any = self.blocks
        # The state has flat names, so that functions on states need not know the blocks.
        for i, block in enumerate(blocks):
            x, parts = block(x, valid, {name: old.get(f"blocks.{i}.{name}") for name in block.state})
            new |= {f"blocks.{i}.{name}": part for name, part in parts.items()}
        if self.goal_edges is not None:
            end_goals(self)
        h = self.norm(x[-1:] if last_only else x)  # [K, B, D]
        if self.spread is not None:
            self.spread.note(h.transpose(0, 1))
        predictions = self.head(h).transpose(0, 1)  # [B, K, A]
        return (predictions, new) if carry else predictions

    def scan(
        self,
        rtg: Tensor,
        states: Tensor,
        actions: Tensor,
        attention_mask: Tensor,
        state: State | None = None,
        goal: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Advance over K steps and return predictions `[B, K, A]` with the next state.

        The caller must store the action taken last in the next state: `state["action"] = action`.
        """
        result: tuple[Tensor, State] = self(rtg, states, actions, None, attention_mask, goal, state=state, carry=True)
        return result

    def step(self, rtg: Tensor, states: Tensor, state: State, goal: Tensor | None = None) -> tuple[Tensor, State]:
        """Advance by one step and return predictions `[B, A]` with the next state.

        `rtg` and `goal` are `[B, 1]`; `states` is `[B, state_dim]`.
        """
        actions = torch.zeros_like(state["action"]).unsqueeze(1)  # [B, 1(, A)], not used
        mask = torch.ones(len(rtg), 1, dtype=torch.bool, device=rtg.device)
        predictions, state = self.scan(rtg.unsqueeze(1), states.unsqueeze(1), actions, mask, state, goal)
        return predictions[:, 0], state  # [B, 1, A] -> [B, A]

    def rest(self, n: int) -> State:
        """Return the state of `n` rows at the beginning of an episode. All tensors are zero."""
        weight = self.embedding.state.weight
        action = weight.new_zeros(n, dtype=torch.int64) if self.discrete else weight.new_zeros(n, self.action_dim)
        state = {"begun": weight.new_zeros(n, dtype=torch.bool), "action": action}
        blocks: Any = self.blocks
        for i, block in enumerate(blocks):
            state |= {f"blocks.{i}.{name}": weight.new_zeros(n, *shape) for name, shape in block.state.items()}
        return state

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Return which tokens belong to real steps: `[B, K] -> [B, K]`."""
        return attention_mask
