"""Contract of a model: constructor arguments, forward and the way a decision is made.

The loss is not part of a model. `snn_dt.learning.losses.loss_of` computes it from predictions.

B batch, K context length in steps, L tokens, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from torch import Tensor, nn

from snn_dt.errors import ConfigError
from snn_dt.model_config import ModelConfig

State = dict[str, Tensor]
"""State of a streaming model: tensors `[B, ...]` by name. They are zero at the beginning of an episode."""


@dataclass(frozen=True)
class TaskShape:
    """Sizes, action type, action bounds and longest episode of a task."""

    state_dim: int
    action_dim: int
    """Number of action dimensions or of discrete actions; the columns of a composite action."""
    discrete: bool
    n_timesteps: int
    """Environment steps of the longest episode."""
    action_low: tuple[float, ...] | None = None
    action_high: tuple[float, ...] | None = None
    """Bounds of continuous actions in environment units. None if there are none."""
    rtg_range: tuple[float, ...] | None = None
    """Lowest and highest scaled return-to-go of the training data."""
    rtg_quantiles: tuple[float, ...] | None = None
    """Quantiles of the scaled return-to-go at equal steps of probability from 0 to 1."""
    goal_edges: tuple[float, ...] | None = None
    """Bounds between the bins of the scaled return of an episode, ascending; None without `model.goal: bins`."""
    action_parts: tuple[int, ...] | None = None
    """Parts of a composite action (MultiDiscrete, MultiBinary, Dict, Tuple): n for a choice of n, with n columns; -1
    for a bit and 0 for a number, with one column. None for Box and Discrete."""

    image: tuple[int, ...] | None = None
    """Shape of the image of an observation; None without one. With one a state is bytes, see `snn_dt.data.images`."""
    frames: int = 1
    """Number of frames in a state."""
    goal_columns: tuple[int, ...] | None = None
    """First column of the desired goal in a state, and the column after its last one; None if a state holds none."""

    @property
    def numbers(self) -> int:
        """Columns of a state that are numbers: all, or those beside the image."""
        return self.state_dim if self.image is None else (self.state_dim - self.frames * math.prod(self.image)) // 4

    @property
    def number_columns(self) -> tuple[bool, ...]:
        """Which columns [A] of a composite action are numbers, not logits."""
        return tuple(code == 0 for code in self.action_parts or () for _ in range(max(code, 1)))


def desired_goal(config: ModelConfig, task: TaskShape) -> slice | None:
    """Return the columns of a state that hold the desired goal, if `model.condition` asks for it.

    Raises:
        ConfigError: the observations of the task hold none.
    """
    if config.condition == "return":
        return None
    if task.goal_columns is None:
        raise ConfigError(
            f"model.condition: expected return for a task without desired goals, found {config.condition}"
        )
    return slice(*task.goal_columns)


class SequenceModel(Protocol):
    """`torch.nn.Module` that predicts actions from windows of returns-to-go, states and actions.

    It is built as `Model(config: ModelConfig, task: TaskShape)`. `predictions[:, t]` depends on `rtg` and `states` up
    to step t and on `actions` up to step t - 1 only.

    The decision for the last step of a window is `model(*window, last_only=True)[:, -1]`. A model with `streams` or an
    `attention_span` uses a state instead of a window; see `StreamingModel`.

    Attributes:
        config, task: configuration and task shape that the model was built from. Nulls are resolved.
        state_dim, action_dim, discrete, context_length: sizes of a batch.
        streams: the model carries a state and its inner tensors are `[K, B, D]`. A model without this attribute has a
            window.
        attention_span: number of steps that a token attends to. None, or no such attribute, is the whole window.
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
        goal: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Predict the action of every step or only of the last one.

        Args:
            rtg: return-to-go over its scale, `[B, K, 1]`.
            states: normalised, `[B, K, state_dim]`; with an image bytes, or features of `snn_dt.models.encoders`.
            actions: `[B, K, A]` float in environment units or `[B, K]` int64 from 0. Choices of a composite action are
                one-hot, its bits 0 or 1.
            timesteps: index in the episode, `[B, K]` int64.
            attention_mask: `[B, K]` bool. False on pads, which come first.
            goal: scaled return of each row's whole episode, `[B, 1]`, for `model.goal: bins`; training must give it.
                None: the goal of `Policy.reset`, at first the highest.
            last_only: compute only the prediction of the last step.

        Returns:
            `[B, K, A]` (`[B, 1, A]` if `last_only`): actions in environment units or logits of discrete actions, of
            choices and of bits.
        """

    def token_mask(self, attention_mask: Tensor) -> Tensor:
        """Return which tokens belong to real steps: `[B, K] -> [B, L]`."""


class StreamingModel(SequenceModel, Protocol):
    """Model with a state of constant size. Each decision advances it by one step, in place or to a new state."""

    def rest(self, n: int) -> State:
        """Return the state of `n` rows at the beginning of an episode."""

    def step(self, rtg: Tensor, states: Tensor, state: State, goal: Tensor | None = None) -> tuple[Tensor, State]:
        """Advance by one step and return predictions `[B, A]` with the next state.

        `rtg` and `goal` are `[B, 1]`; `states` is `[B, state_dim]`. The caller must store the action taken in the next
        state: `state["action"] = action`.
        """


def decides_from_state(model: nn.Module | SequenceModel) -> TypeGuard[StreamingModel]:
    """Return whether a decision takes a state and one step instead of a window.

    It does for a streaming model, and for a model with an attention span, whose state holds keys and values.
    """
    return is_streaming(model) or getattr(model, "attention_span", None) is not None


def is_streaming(model: nn.Module | SequenceModel) -> TypeGuard[StreamingModel]:
    """Return whether the inner tensors of a model have time first. The attribute was `tokens_first` in 0.1.0."""
    return bool(getattr(model, "streams", getattr(model, "tokens_first", False)))
