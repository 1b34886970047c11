"""The training loop of recurrent networks.

An update takes a sample, a gradient and an optimizer step. Topology, evaluation and checkpoint follow at intervals.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from snn_dt.errors import TrainingError
from snn_dt.experimental.rsnn.config import LearnConfig
from snn_dt.experimental.rsnn.learning_rules import Rule
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN
from snn_dt.experimental.rsnn.tasks import Task
from snn_dt.experimental.rsnn.topology import Topology
from snn_dt.training.signals import StopSignal
from snn_dt.training.sinks import MetricSink
from snn_dt.training.state import TrainingState

EVALUATION_STEP = 2**31  # evaluations use the samples of this update, which training never reaches


@dataclass(frozen=True)
class Trained:
    """A network with its task, learning rule and topology."""

    network: RecurrentSNN
    task: Task
    rule: Rule
    topology: Topology


def train(
    config: LearnConfig,
    parts: Trained,
    sink: MetricSink,
    save: Callable[[TrainingState], None],
    state: TrainingState,
    stop: StopSignal,
) -> bool:
    """Train from `state` until `config.steps` updates, an error below `config.stop_error`, or a signal.

    Returns:
        Whether training is finished.

    Raises:
        TrainingError: the loss or the gradient is not finite.
    """
    begin, begin_step = time.perf_counter(), state.step  # for the speed of this session
    topology = parts.topology
    while not _done(config, state) and stop.signum is None:
        metrics = parts.rule.learn(parts.task.draw(config.seed, state.step, config.batch_size))
        # a Hebbian rule leaves most without a gradient
        parameters = [p for p in parts.network.parameters() if p.grad is not None]
        # without a limit it only measures the norm
        norm = nn.utils.clip_grad_norm_(parameters, config.grad_clip or math.inf)
        state.add({**metrics, "grad_norm": norm})
        _decay(parts.network, config)
        state.optimizer.step()
        state.step += 1
        if _due(state.step, topology.config.every):
            topology.revise(state.step, state.optimizer)
        last = state.step == config.steps
        if _due(state.step, config.log_every) or last:
            means = state.take_means()
            # checked at the logging interval, for the means that are reported
            if not math.isfinite(means["loss"] + means["grad_norm"]):
                raise TrainingError(
                    f"expected a finite loss and gradient, found {means['loss']} and {means['grad_norm']} by update "
                    f"{state.step}; lower --learn.learning_rate or set --learn.grad_clip"
                )
            speed = (state.step - begin_step) / (time.perf_counter() - begin)
            sink.log(state.step, {**means, "connections": topology.connections(), "steps_per_second": speed})
        if _due(state.step, config.eval_every) or last:
            scores = evaluate(parts, config)
            sink.log(state.step, {f"test_{name}": value for name, value in scores.items()})
            state.evaluated_at, state.best_score = state.step, max(state.best_score, -scores["error"])
        if _due(state.step, config.save_every):
            save(state)
    save(state)
    return _done(config, state)


@torch.no_grad()
def evaluate(parts: Trained, config: LearnConfig) -> dict[str, float]:
    """Return loss, error, firing rate and accumulates per sample. The samples are never used for training."""
    sample = parts.task.draw(config.seed, EVALUATION_STEP, config.eval_samples)
    y, spikes = parts.network(sample.x)
    values = {"loss": parts.task.loss(y, sample.target), "firing_rate": spikes.mean()}
    values |= {"operations": parts.network.synaptic_operations(sample.x, spikes)}
    return {name: float(value) for name, value in (values | parts.task.scores(y, sample.target)).items()}


def make_optimizer(config: LearnConfig, network: RecurrentSNN) -> torch.optim.Optimizer:
    """Return torch's SGD (with or without momentum) or Adam. `_decay` applies the weight decay."""
    if config.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    momentum = 0.9 if config.optimizer == "momentum" else 0.0
    return torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=momentum)


@torch.no_grad()
def _decay(network: RecurrentSNN, config: LearnConfig) -> None:
    """Apply decoupled weight decay to the parameters that have a gradient."""
    if config.weight_decay:
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter.mul_(1 - config.learning_rate * config.weight_decay)


def _done(config: LearnConfig, state: TrainingState) -> bool:
    # `best_score` is the negative of the lowest error
    return state.step >= config.steps or state.best_score > -config.stop_error


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
