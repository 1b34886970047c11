"""Three-factor plasticity of an action head, in training next to the optimizer.

B windows of K steps; D width, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from snn_dt.data.windows import Batch
from snn_dt.errors import ConfigError
from snn_dt.experimental.local_learning.three_factor import RunningMean, bounded, modulated
from snn_dt.models.interface import is_streaming
from snn_dt.models.layers import ActionHead
from snn_dt.rule_config import PlasticityConfig
from snn_dt.snn.record import record


def output_activity(head: ActionHead, predictions: Tensor, discrete: bool) -> Tensor:
    """Return the output activity of the head, `[..., A]`.

    It is the probability of a discrete action, a bounded action scaled to [-1, 1], or the `tanh` of an unbounded one.
    """
    if discrete:
        return predictions.softmax(-1)
    return 2 * (predictions - head.low) / (head.high - head.low) - 1 if head.bounded else predictions.tanh()


def action_activity(head: ActionHead, actions: Tensor, discrete: bool) -> Tensor:
    """Return the output activity that corresponds to `actions`."""
    if discrete:
        return F.one_hot(actions, head.out_features).to(head.weight.dtype)
    return output_activity(head, actions, discrete)


class HeadPlasticity:
    """Pre and post factors of the action head of `model`, for training and for acting.

    Raises:
        ConfigError: actions are composite.

    Attributes:
        recording: records the calls of the head until `recording.stop()`.
    """

    def __init__(self, config: PlasticityConfig, model: nn.Module) -> None:
        model_: Any = model
        if getattr(getattr(model, "task", None), "action_parts", None) is not None:
            raise ConfigError(
                "plasticity.eta: expected 0 for MultiDiscrete, MultiBinary, Dict and Tuple actions, found more; choose "
                "a dataset with Box or Discrete actions"
            )
        self.config, self.discrete = config, model_.discrete
        self.head: ActionHead = model_.head
        self._tokens_first = is_streaming(model)
        self.recording = record(model, {"head": self.head}).start()

    @property
    def pre(self) -> Tensor:
        """Input of the head in the last forward, `[B, K, D]`."""
        pre: Tensor = self.recording.calls[-1].inputs[0].detach()
        return pre.transpose(0, 1) if self._tokens_first else pre  # [K, B, D] -> [B, K, D]

    def post(self, predictions: Tensor, actions: Tensor) -> Tensor:
        """Return the post factor `[..., A]`."""
        post = output_activity(self.head, predictions.detach(), self.discrete)
        return action_activity(self.head, actions, self.discrete) - post if self.config.post == "error" else post

    def grown(self, plastic: Tensor, change: Tensor, weight: Tensor) -> Tensor:
        """Return `plastic + change`, scaled down to the bound if necessary."""
        return bounded(plastic + change, self.config.bound * torch.linalg.vector_norm(weight))


class TrainingPlasticity(HeadPlasticity):
    r"""Plasticity in training: `W += eta \sum_t delta_t E_t`, the mean over the valid steps of the batch.

    The trace E starts at 0 in each window. delta_t is the return-to-go minus its mean over earlier batches, so the
    first batch changes nothing. The change is applied after the optimizer step and affects later batches only.

    Attributes:
        plastic: sum of all changes so far, which the bound limits.
    """

    def __init__(self, config: PlasticityConfig, model: nn.Module) -> None:
        super().__init__(config, model)
        self.plastic = torch.zeros_like(self.head.weight, requires_grad=False)
        self.baseline = RunningMean(config.baseline_rate)
        self._sums: list[Tensor] = []

    @torch.no_grad()
    def observe(self, batch: Batch, predictions: Tensor) -> None:
        """Add the changes of a part of a batch, right after the forward that gave `predictions`."""
        mask, rtg = batch.attention_mask, batch.rtg.squeeze(-1)  # [B, K] both
        delta = rtg if self.config.modulator == "return" else rtg - self.baseline.mean.to(rtg)
        if self.config.modulator == "advantage" and not self.baseline.count:
            # Without an earlier batch there is no baseline yet.
            delta = torch.zeros_like(rtg)
        post = self.post(predictions, batch.actions)
        change = modulated(self.pre.to(post.dtype), post, delta.clamp(-1, 1), mask, self.config.decay)
        steps = torch.stack([rtg.masked_fill(~mask, 0).sum(), mask.sum().to(rtg)])  # [2]
        # One vector of changes, returns and steps, so that one message sums it over processes.
        self._sums.append(torch.cat([change.flatten(), steps]))  # [A D + 2]

    @torch.no_grad()
    def apply(self, total: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Apply the observed changes to the weights and return a metric. `total` sums over processes."""
        change, returns, steps = total(torch.stack(self._sums).sum(0)).split([self.plastic.numel(), 1, 1])
        self._sums = []
        weight = self.head.weight
        change = self.config.eta * change.view_as(self.plastic) / steps  # [A D] -> [A, D]
        # The bound is relative to the weights without plasticity.
        plastic = self.grown(self.plastic, change, weight - self.plastic)
        weight += plastic - self.plastic
        self.plastic = plastic
        self.baseline.add((returns / steps).squeeze())
        return {"plasticity": torch.linalg.vector_norm(plastic) / torch.linalg.vector_norm(weight)}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"plastic": self.plastic, "mean": self.baseline.mean, "count": self.baseline.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`."""
        self.plastic = state["plastic"].to(self.plastic)
        self.baseline.mean, self.baseline.count = state["mean"], state["count"]
