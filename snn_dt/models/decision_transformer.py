"""Decision Transformer (Chen et al. 2021, arXiv 2106.01345) and its spiking counterparts, which differ in the block.

B batch, K context length in steps, L tokens, D width, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.blocks import build_block
from snn_dt.models.embedding import TokenEmbedding
from snn_dt.models.encoders import build_encoder
from snn_dt.models.goals import add_goals, end_goals, give_goals
from snn_dt.models.heads import build_head
from snn_dt.models.interface import State, TaskShape, desired_goal
from snn_dt.models.kept_keys import LayerCache, Ring
from snn_dt.models.layers import TimeMean
from snn_dt.models.phase_positions import PhaseGate, build_phase
from snn_dt.models.positions import build_positions
from snn_dt.models.return_code import build_return_code
from snn_dt.models.spread import build_spread
from snn_dt.models.tokens import Tokens, causal_mask
from snn_dt.snn import TimedLIF


class DecisionTransformer(nn.Module):
    """Causal sequence model of actions `p(a_t | R_<=t, s_<=t, a_<t)`.

    The prediction for step t is read from its state token, so it cannot depend on `a_t` or later inputs.

    Attributes:
        config, task: configuration and task shape that the model was built from. Nulls are resolved.
        state_dim, action_dim, discrete, context_length: sizes of a batch.
        attention_span: number of steps that a token attends to. None is the whole window. With a span `step` decides.
    """

    streams = False
    goal_edges: Tensor | None

    def __init__(self, config: ModelConfig, task: TaskShape) -> None:
        super().__init__()
        config = config.resolved()
        self.config, self.task = config, task
        self.state_dim, self.action_dim, self.discrete = task.state_dim, task.action_dim, task.discrete
        self.context_length, self.attention_span = config.context_length, config.attention_span
        self.embedding = TokenEmbedding(
            task.state_dim,
            task.action_dim,
            task.discrete,
            config.d_model,
            build_positions(config, task.n_timesteps),
            merged=config.tokens == "merged",
            rtg_range=task.rtg_range if config.reads_return else (0.0, 0.0),
            return_code=build_return_code(config, task),
            goal_columns=desired_goal(config, task),
            reads_return=config.condition != "goal",
            encoder=build_encoder(config, task),
        )
        self.phase_gate = build_phase(config, task.n_timesteps, PhaseGate) if config.phase_input == "gate" else None
        self.dropout = nn.Dropout(config.dropout)
        n_tokens, last = self.embedding.n_tokens(config.context_length), config.n_layers - 1
        self.blocks = nn.ModuleList(build_block(config, n_tokens, i == last) for i in range(config.n_layers))
        self.time_mean = TimeMean()
        self.norm = nn.LayerNorm(config.d_model)
        self.head = build_head(config, task)
        self.spread = build_spread(config, task)
        add_goals(self, config, task)

    def forward(
        self,
        rtg: Tensor,
        states: Tensor,
        actions: Tensor,
        timesteps: Tensor,
        attention_mask: Tensor,
        goal: Tensor | None = None,
        last_only: bool = False,
        state: State | None = None,
    ) -> Tensor:
        """Predict the action of every step or only of the last one. `SequenceModel.forward` lists the shapes.

        With a `state` the inputs are those of the new tokens of a decision (see `TokenEmbedding.forward`), and the
        state is changed in place.
        """
        if self.goal_edges is not None:
            give_goals(self, goal)
        x = self.dropout(self.embedding(rtg, states, actions, timesteps, attention_mask))  # [B, L, D]
        layers = self._tokens(timesteps, attention_mask, state)
        for block, tokens in zip(self.blocks[:-1], layers[:-1], strict=True):
            x = block(x, tokens)
        # Predictions are read from the state tokens, so the last block computes only these.
        queries = slice(-1, None) if last_only else self.embedding.query_slice
        x = self.blocks[-1](x, replace(layers[-1], query_slice=queries))  # [(T,) B, K, D], or [(T,) B, 1, D]
        if self.goal_edges is not None:
            end_goals(self)
        h = self.norm(self.time_mean(x))  # [B, K, D], or [B, 1, D]
        if self.spread is not None:
            self.spread.note(h)
        prediction: Tensor = self.head(h)  # [B, K, A], or [B, 1, A]
        return prediction

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Return which tokens belong to real steps: `[B, K] -> [B, L]`."""
        return self.embedding.per_token(attention_mask)

    def _tokens(self, timesteps: Tensor, attention_mask: Tensor, state: State | None) -> list[Tokens]:
        """Return the tokens of each block. Blocks differ in their kept keys and values."""
        embedding, n = self.embedding, self.config.n_layers
        gate = None if self.phase_gate is None else embedding.per_token(self.phase_gate(timesteps))  # [B, L, D]
        if state is None:
            valid = self.token_mask(attention_mask)
            return [Tokens(valid, causal_mask(valid, self.attention_span, embedding.per_step), gate=gate)] * n
        new = self.ring.add(state["timestep"])
        gate = None if gate is None else gate[:, -embedding.per_step :]  # [B, P, D]
        rings = [LayerCache(state[f"blocks.{i}.keys"], state[f"blocks.{i}.values"], new) for i in range(n)]
        return [Tokens(new.valid, new.attention_mask, gate=gate, cache=ring) for ring in rings]

    @property
    def ring(self) -> Ring:
        """Places of the tokens whose keys and values a decision keeps."""
        assert self.attention_span is not None, "without an attention span a decision takes a window"
        return Ring(self.attention_span, self.embedding.per_step)

    def rest(self, n: int) -> State:
        """Return the state of `n` rows at the beginning of an episode: step 0, no action, empty rings of each layer."""
        c, weight = self.config, self.norm.weight
        action = weight.new_zeros(n, dtype=torch.int64) if self.discrete else weight.new_zeros(n, self.action_dim)
        steps = (c.sim_steps,) if any(isinstance(m, TimedLIF) for m in self.blocks.modules()) else ()
        shape = (n, *steps, self.ring.capacity, c.d_model)  # [B, (T,) C, D]
        state = {"timestep": weight.new_zeros(n, dtype=torch.int64), "action": action}
        names = [f"blocks.{i}.{part}" for i in range(c.n_layers) for part in ("keys", "values")]
        return state | {name: weight.new_zeros(shape) for name in names}

    def decision_masks(self, steps: Tensor) -> dict[int, Tensor]:
        """Return which entries of the tensors `[B, L, ...]` of a decision exist, by length L.

        `steps [B]` is the number of decisions of each episode so far, this one included.
        """
        exists = torch.ones(len(steps), 1, dtype=torch.bool, device=steps.device)
        p, begun = self.embedding.per_step, steps[:, None] > 1
        masks = {self.ring.capacity: exists.expand(-1, self.ring.capacity)}
        if p > 1:  # the steps t - 1 and t, and the tokens of the action, the return-to-go and the state
            masks |= {2: torch.cat([begun, exists], 1), p: torch.cat([begun, exists, exists], 1)}
        return masks | {1: exists}

    @torch.no_grad()
    def step(self, rtg: Tensor, states: Tensor, state: State, goal: Tensor | None = None) -> tuple[Tensor, State]:
        """Decide with `rtg [B, 1]`, `states [B, state_dim]` and the kept keys and values; return predictions `[B, A]`.

        The result is that of `forward` over the whole episode; `goal [B, 1]` is as there. The state is changed in
        place. The caller must store the action taken in it: `state["action"] = action`. Each row is at a step of its
        own, `state["timestep"]`, and a row of zeros begins a new episode.
        """
        prediction = self(*self.new_inputs(rtg, states, state), goal, last_only=True, state=state)
        state["timestep"] += 1
        return prediction[:, 0], state  # [B, 1, A] -> [B, A]

    def new_inputs(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the inputs of the embedding for the new tokens of a decision; see `TokenEmbedding.forward`."""
        now, action = state["timestep"], state["action"].unsqueeze(1)
        both = torch.stack([now - 1, now], 1)  # [B, 2], the steps of the action and of the return-to-go and state
        timesteps = (both[:, 1:] if self.embedding.merged else both).clamp(min=0)
        # The first step has no action before it.
        return rtg.unsqueeze(1), states.unsqueeze(1), action, timesteps, both >= 0
