"""Where an update comes from: a gradient through time, whole or local, or a reward."""

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
    """Fills the `.grad` of a network's parameters."""

    def learn(self, sample: Sample) -> dict[str, Tensor]:
        """Run over a sample, leave gradients, return metrics: `loss` and those of the task."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it carries from update to update."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take that over."""


class Gradient:
    """The gradient of loss and penalties: BPTT, or with `local` e-prop, found backwards (`RecurrentSNN`)."""

    def __init__(self, config: RSNNConfig, network: RecurrentSNN, task: Task) -> None:
        self.config, self.network, self.task = config, network, task
        self.local = config.learn.rule == "eprop"

    def learn(self, sample: Sample) -> dict[str, Tensor]:
        """Run forwards and backwards."""
        y, spikes = self.network(sample.x, self.local)
        loss = self.task.loss(y, sample.target)
        self.network.zero_grad(set_to_none=True)
        (loss + penalty(self.config.penalty, self.network, spikes)).backward()
        return {
            "loss": loss.detach(),
            "firing_rate": spikes.detach().mean(),
            **self.task.scores(y.detach(), sample.target),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing over."""


class Reward:
    """Reward-modulated Hebbian learning (`hebbian.py`); penalties, which are gradients, have no part in it."""

    def __init__(self, config: RSNNConfig, network: RecurrentSNN, task: Task) -> None:
        self.network, self.task = network, task
        self.hebbian = Hebbian(network, config.hebbian)
        self.state_dict, self.load_state_dict = self.hebbian.state_dict, self.hebbian.load_state_dict

    @torch.no_grad()
    def learn(self, sample: Sample) -> dict[str, Tensor]:
        """Run forwards, be paid."""
        y, spikes = self.network(sample.x)
        rewards = self.hebbian.learn(sample.x, spikes, y, sample.target)
        metrics = {"loss": self.task.loss(y, sample.target), "firing_rate": spikes.mean(), "reward": rewards.mean()}
        return metrics | self.task.scores(y, sample.target)


def make_rule(config: RSNNConfig, network: RecurrentSNN, task: Task) -> Rule:
    """Build the rule of `config.learn.rule`."""
    return (Reward if config.learn.rule == "hebbian" else Gradient)(config, network, task)
