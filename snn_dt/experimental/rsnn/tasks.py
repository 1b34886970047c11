"""Tasks for recurrent spiking networks. A task gives samples, a loss and an error.

Shapes: T steps of 1 ms; B samples; P inputs; O outputs; C classes. Inputs [T, B, P] are spikes. `y` [T, B, O] is the
network's output. The samples of an update are a function of (seed, step). Pattern generation and evidence accumulation
are the tasks of Bellec et al. 2020 (Nature Communications 11:3625) and its code.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_dt.experimental.rsnn.config import LearnConfig, TaskConfig
from snn_dt.experimental.rsnn.rates import margin_hinge, margins, mean_rate, rate_cross_entropy
from snn_dt.experimental.rsnn.topology import update_generator

CUE_STEPS, CUE_ON_STEPS, RECALL_STEPS = 150, 100, 150
MAJORITY_PROBABILITY = 0.7
PERIODS = (1000, 500, 333, 200)
"""Periods of the pattern's sines in steps."""


class Sample(NamedTuple):
    """Inputs [T, B, P] and targets. Targets are a curve [T, B, 1] or classes [B] int64."""

    x: Tensor
    target: Tensor


class Task(Protocol):
    """The interface of a task."""

    inputs: int
    outputs: int

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return the samples of one update."""

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return the scalar loss."""

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the means over samples of `error` and of optional further scores."""


class Pattern:
    """Pattern generation: output a sum of four sines of random weight and phase; the input is fixed noise.

    Loss: half the squared error, summed over steps. Error: mean squared error over the curve's variance.
    """

    def __init__(self, config: TaskConfig, learn: LearnConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        self.inputs, self.outputs = config.inputs, 1
        time = torch.arange(config.steps) / 1.0  # steps, as floats
        curve = torch.zeros(config.steps)
        for period in PERIODS:
            # weight in [0.5, 2], phase in periods
            weight, phase = 0.5 + 1.5 * torch.rand((), generator=generator), torch.rand((), generator=generator)
            curve += weight * torch.sin(2 * math.pi * (time / period + phase))
        self.curve = (curve / curve.abs().max()).view(-1, 1, 1)  # [T, 1, 1], in [-1, 1]
        noise = torch.rand(config.steps, 1, config.inputs, generator=generator)
        self.noise = (noise < config.rate_hz / 1000).float()  # spike probability per step of 1 ms

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return the only sample, expanded to `samples` rows."""
        # views, not copies: [T, B, P] and [T, B, 1]
        return Sample(self.noise.expand(-1, samples, -1), self.curve.expand(-1, samples, -1))

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return `1/2 sum_t (y - y*)^2`."""
        return 0.5 * (y - target).square().sum() / y.shape[1]

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the normalised error."""
        return {"error": (y - target).square().mean() / target.var(0, unbiased=False).mean()}


class Evidence:
    """Evidence accumulation: report, after a delay, the side with more cues.

    Four groups of inputs: left cues and right cues (active in the first 100 of 150 steps), recall (the last 150 steps)
    and noise at a quarter of the rate in every step. Each trial has a side from which a cue comes with probability 0.7.
    Loss: mean cross-entropy over the recall. Answer: the side with the higher mean probability in the recall.
    """

    def __init__(self, config: TaskConfig, learn: LearnConfig) -> None:
        self.inputs, self.outputs, self.cues = config.inputs, 2, config.cues
        self.length, self.rate = config.cues * CUE_STEPS + config.steps, config.rate_hz / 1000

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return new trials."""
        generator = update_generator(seed, step)
        p_right = MAJORITY_PROBABILITY, 1 - MAJORITY_PROBABILITY
        right = torch.where(torch.rand(samples, 1, generator=generator) < 0.5, *p_right)  # [B, 1]
        cues = (torch.rand(samples, self.cues, generator=generator) < right).long()  # [B, cues]; 1 is right
        rates = torch.zeros(self.length, samples, 4)  # groups: left, right, recall, noise
        for i, side in enumerate(cues.t()):  # side [B] of cue i
            rates[i * CUE_STEPS : i * CUE_STEPS + CUE_ON_STEPS] += self.rate * F.one_hot(side, 4)
        rates[-RECALL_STEPS:, :, 2] = self.rate
        rates[:, :, 3] = self.rate / 4
        rates = rates.repeat_interleave(self.inputs // 4, -1)  # [T, B, 4] -> [T, B, P]
        # independent Bernoulli spikes per step
        x = (torch.rand(rates.shape, generator=generator) < rates).float()
        return Sample(x, (2 * cues.sum(1) > self.cues).long())  # target 1: most cues on the right

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy over the recall."""
        recall = y[-RECALL_STEPS:].flatten(0, 1)  # [recall, B, 2] -> [recall B, 2]
        return F.cross_entropy(recall, target.expand(RECALL_STEPS, -1).flatten())

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the share of wrong answers."""
        answers = y[-RECALL_STEPS:].softmax(-1).mean(0).argmax(-1)  # [recall, B, 2] -> [B]
        return {"error": (answers != target).float().mean()}


class Classes:
    """Classification of noisy spike trains: each of C classes has its own input rates; the most active output answers.

    In each class a fifth of the inputs fires at the full rate, the others at a tenth of it. The margin is the rate of
    the right output minus the highest rate of the others. Loss: cross-entropy of `softmax(rates / temperature)`, or the
    hinge `max(0, learn.margin - margin)`. An answer with a margin of 0 or less is wrong.
    """

    def __init__(self, config: TaskConfig, learn: LearnConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        self.inputs, self.outputs, self.length = config.inputs, config.classes, config.steps
        # a random order of the inputs for each class, [C, P]
        order = torch.rand(config.classes, config.inputs, generator=generator).argsort(-1)
        active = order < max(1, config.inputs // 5)  # [C, P]
        self.rates = torch.where(active, 1.0, 0.1) * config.rate_hz / 1000  # spike probability per step, [C, P]
        self.learn = learn

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return new spike trains of random classes."""
        generator = update_generator(seed, step)
        classes = torch.randint(0, self.outputs, (samples,), generator=generator)
        noise = torch.rand(self.length, samples, self.inputs, generator=generator)
        return Sample((noise < self.rates[classes]).float(), classes)  # [T, B, P] < [B, P]

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of the mean rates or the hinge on the margin."""
        if self.learn.loss == "margin":
            return margin_hinge(mean_rate(y), target, self.learn.margin)
        return rate_cross_entropy(mean_rate(y), target, self.learn.temperature)

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the share of answers with a margin of at most 0 and the mean margin."""
        margin = margins(mean_rate(y), target)
        return {"error": (margin <= 0).float().mean(), "margin": margin.mean()}


TASKS: dict[str, type[Pattern] | type[Evidence] | type[Classes]] = {
    "pattern": Pattern,
    "evidence": Evidence,
    "classes": Classes,
}


def make_task(config: TaskConfig, learn: LearnConfig) -> Task:
    """Build the task of `config.kind`."""
    return TASKS[config.kind](config, learn)
