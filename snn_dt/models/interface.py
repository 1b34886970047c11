"""The contract of a model: what it is built from, its forward, and how a decision is made with it.

The loss is no part of a model: `snn_dt.learning.losses.loss_of` takes its predictions.

B batch, K context length in steps, L tokens, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn

from snn_dt.model_config import ModelConfig

State = dict[str, Tensor]
"""State of a streaming model: tensors `[B, ...]` by name, all zero at the beginning of an episode."""


@dataclass(frozen=True)
class TaskShape:
    """Sizes of a task, kind and bounds of its actions, length of its longest episode."""

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


class SequenceModel(Protocol):
    """A `torch.nn.Module` that predicts actions from windows of returns-to-go, states and actions.

    It is built as `Model(config: ModelConfig, task: TaskShape)`. `predictions[:, t]` depends on `rtg` and `states` up
    to step t and on `actions` up to step t - 1 only.

    A decision for the last step of a window is `model(*window, last_only=True)[:, -1]`. A model with `streams` decides
    from a state instead of a window, see `StreamingModel`.

    Attributes:
        config, task: what the model was built from, nulls resolved.
        state_dim, action_dim, discrete, context_length: the sizes of a batch.
        streams: the model carries a state; inside, tensors are `[K, B, D]`. A model without this attribute has a
        window.
    """

    config: ModelConfig
    task: TaskShape
    state_dim: int
    action_dim: int
    discrete: bool
    context_length: int
    streams: bool

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Call `forward` and the hooks of the module."""

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
            attention_mask: `[B, K]` bool, False on pads, which come first.
            last_only: compute only what the prediction of the last step needs.

        Returns:
            `[B, K, A]` (`[B, 1, A]` if `last_only`): actions in environment units, or logits if discrete.
        """

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Return which tokens belong to real steps, `[B, K] -> [B, L]`."""


class StreamingModel(SequenceModel, Protocol):
    """A model with a state of constant size, which a decision advances by one step."""

    def rest(self, n: int) -> State:
        """Return the state of `n` rows at the beginning of an episode."""

    def step(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by one step, `rtg [B, 1]`, `states [B, state_dim]`; return predictions `[B, A]` and the next state.

        The caller writes the action that was taken into the next state: `state["action"] = action`.
        """


def is_streaming(model: nn.Module | SequenceModel) -> TypeGuard[StreamingModel]:
    """Tell whether a model decides from a state; `tokens_first` is the attribute's name in snn_dt 0.1.0."""
    return bool(getattr(model, "streams", getattr(model, "tokens_first", False)))
