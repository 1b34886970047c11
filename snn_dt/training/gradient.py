"""The gradient of a batch: forward, loss, backward.

B windows of K steps; see `snn_dt.data.windows.Batch` for the shapes of a batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.config import TrainConfig
from snn_dt.cuda_graph import CudaGraph
from snn_dt.data.windows import Batch
from snn_dt.learning.budget import Budget
from snn_dt.learning.losses import loss_of
from snn_dt.learning.tbptt import TBPTT
from snn_dt.training.state import TrainingState

Gradient = Callable[..., tuple[dict[str, Tensor], list[Tensor | None]]]
WARM_UP = 3
"""Updates before the gradient is captured as a CUDA graph."""


def make_gradient(config: TrainConfig, model: nn.Module, state: TrainingState) -> Gradient:
    """Return `(*fields of a Batch, valid, progress) -> metrics, gradients`, with the gradients in parameter order.

    `valid` is the number of valid steps in the batches of all processes. Losses and gradients are divided by it, so
    they add up to those of the whole batch. `progress` is the fraction of updates done, and sets the budget weight.
    Both are scalars on the device. The next call may overwrite the returned tensors.
    """
    device, parameters = next(model.parameters()).device, list(model.parameters())
    forward: Any = torch.compile(model) if config.compile else model
    if config.stateful:
        forward = StatefulForward(forward, state)
    budget = Budget(config.budget, model) if config.budget.limits else None
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16" and _has_bf16(device))

    def gradient(*inputs: Tensor) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        *fields, valid, progress = inputs
        for parameter in parameters:
            # In a captured graph every replay writes new gradients instead of adding to old ones.
            parameter.grad = None
        totals: dict[str, Tensor] = {}
        for part in _split(Batch(*fields), config.accumulate):
            with autocast, contextlib.nullcontext() if budget is None else budget.watch():
                predictions = forward(*part.fields)
            loss, metrics = loss_of(model, part, predictions)
            if state.plasticity is not None:
                state.plasticity.observe(part, predictions.float())
            if budget is not None:
                above, measured = budget.excess(progress, part.attention_mask)
                loss, metrics = loss + above, metrics | measured
            # Weighted by valid steps, so parts and processes add up to the loss of the whole batch.
            share = part.attention_mask.sum() / valid
            torch.autograd.backward(loss * share)
            totals = {name: totals.get(name, 0) + value * share for name, value in metrics.items()}
        return totals, [p.grad for p in parameters]

    captured = device.type == "cuda" and config.cuda_graph and not _needs_the_host(config, state)
    return CudaGraph(gradient, after=WARM_UP) if captured else gradient


class StatefulForward:
    """Stateful training: the forward pass of a streaming model from the state of the previous update.

    A batch of `EpisodeStreams` is one window of `TBPTT`. `TrainingState.carried` holds the state, and checkpoints store
    it.
    """

    def __init__(self, model: Callable[..., Any], state: TrainingState) -> None:
        self._model, self._state = model, state

    def __call__(
        self,
        rtg: Tensor,
        states: Tensor,
        actions: Tensor,
        timesteps: Tensor,
        attention_mask: Tensor,
        goal: Tensor | None = None,
    ) -> Tensor:
        """Return predictions `[B, K, A]`; an episode starts in each row where `timesteps[:, 0]` is 0."""
        tbptt = TBPTT(partial(self._advance, goal), window=rtg.shape[1], dim=1)
        tbptt.state = self._state.carried
        starts = torch.zeros_like(attention_mask)  # [B, K]
        starts[:, 0] = timesteps[:, 0] == 0
        ((_, predictions),) = tbptt(rtg, states, actions, timesteps, attention_mask, starts=starts)
        self._state.carried = tbptt.state
        return predictions

    def _advance(self, goal: Tensor | None, *inputs_and_state: Any) -> tuple[Tensor, Any]:
        *inputs, state = inputs_and_state
        result: tuple[Tensor, Any] = self._model(*inputs, goal=goal, state=state, carry=True)
        return result


def _needs_the_host(config: TrainConfig, state: TrainingState) -> bool:
    """Return whether an update runs code that a CUDA graph cannot replay."""
    options = config.compile, config.stateful, config.rule != "bptt"
    return any(options) or state.slopes is not None or state.plasticity is not None


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    # Each field [B, ...] -> `parts` chunks [B / parts, ...].
    return [Batch(*part) for part in zip(*(x.chunk(parts) for x in batch.fields), strict=True)]


def _has_bf16(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
