"""Truncated BPTT in the training loop: an update begins from the state that the update before has left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from snn_dt.learning.tbptt import TBPTT
from snn_dt.training.state import TrainingState


class StatefulForward:
    """Forward of a streaming model over the batches of `EpisodeStreams`: `(rtg, states, ...) -> predictions`.

    A batch is one window of `TBPTT`, whose state is kept in `TrainingState.carried`, and with it in checkpoints.
    """

    def __init__(self, model: Callable[..., Any], state: TrainingState) -> None:
        self._model, self._state = model, state

    def __call__(
        self, rtg: Tensor, states: Tensor, actions: Tensor, timesteps: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """Return predictions `[B, K, A]`; episodes begin in the rows where `timesteps[:, 0]` is 0."""
        tbptt = TBPTT(self._advance, window=rtg.shape[1], dim=1)
        tbptt.state = self._state.carried
        starts = torch.zeros_like(attention_mask)
        starts[:, 0] = timesteps[:, 0] == 0
        ((_, predictions),) = tbptt(rtg, states, actions, timesteps, attention_mask, starts=starts)
        self._state.carried = tbptt.state
        return predictions

    def _advance(self, *inputs_and_state: Any) -> tuple[Tensor, Any]:
        *inputs, state = inputs_and_state
        result: tuple[Tensor, Any] = self._model(*inputs, state=state, carry=True)
        return result
