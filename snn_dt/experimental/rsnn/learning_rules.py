"""Learning rules: gradients (BPTT or e-prop) and reward-modulated Hebbian learning."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from snn_dt.experimental.rsnn.config import RSNNConfig
from snn_dt.experimental.rsnn.hebbian import Hebbian
from snn_dt.experimental.rsnn.penalties import penalty
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN
from snn_dt.experimental.rsnn.tasks import Sample, Task


class Rule(Protocol):
    """The interface of a learning rule. A rule fills the `.grad` of a network's parameters."""

    def learn(self, sample: Sample) -> dict[str, Tensor]:
        """Run a sample and set the gradients. Return `loss` and the scores of the task."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state kept between updates."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class Gradient:
    """The gradient of loss and penalties by BPTT or e-prop (`local` in `RecurrentSNN`)."""

    def __init__(self, config: RSNNConfig, network: RecurrentSNN, task: Task) -> None:
        self.config, self.network, self.task = config, network, task
        self.local = config.learn.rule == "eprop"

    def learn(self, sample: Sample) -> dict[str, Tensor]:
        """Run forward and backward."""
        y, spikes = self.network(sample.x, self.local)  # [T, B, O], [T, B, N]
        loss = self.task.loss(y, sample.target)
        self.network.zero_grad(set_to_none=True)
        torch.autograd.backward(loss + penalty(self.config.penalty, self.network, spikes))
        return {
            "loss": loss.detach(),
            "firing_rate": spikes.detach().mean(),
            **self.task.scores(y.detach(), sample.target),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return nothing; a gradient has no state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class Reward:
    """Reward-modulated Hebbian learning (`hebbian.py`). It ignores the penalties because they need a gradient."""

    def __init__(self, config: RSNNConfig, network: RecurrentSNN, task: Task) -> None:
        self.network, self.task = network, task
        self.hebbian = Hebbian(network, config.hebbian)

    @torch.no_grad()
    def learn(self, sample: Sample) -> dict[str, Tensor]:
        """Run forward and learn from the reward."""
        y, spikes = self.network(sample.x)
        rewards = self.hebbian.learn(sample.x, spikes, y, sample.target)
        metrics = {"loss": self.task.loss(y, sample.target), "firing_rate": spikes.mean(), "reward": rewards.mean()}
        return metrics | self.task.scores(y, sample.target)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the Hebbian rule."""
        return self.hebbian.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.hebbian.load_state_dict(state)


def make_rule(config: RSNNConfig, network: RecurrentSNN, task: Task) -> Rule:
    """Return the rule named by `config.learn.rule`."""
    return (Reward if config.learn.rule == "hebbian" else Gradient)(config, network, task)
