"""Tasks for recurrent spiking networks: samples that are a pure function of (seed, step), a loss, an error.

T steps, B samples, P inputs, O outputs, C classes. Inputs `[T, B, P]` are spikes; what the network says is `y`
[T, B, O]. Pattern generation and evidence accumulation are those of Bellec et al. 2020 (Nature Communications 11:3625)
and its code; one step is 1 ms.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_dt.experimental.rsnn.config import LearnConfig, TaskConfig
from snn_dt.experimental.rsnn.rates import margin_hinge, margins, mean_rate, rate_cross_entropy
from snn_dt.experimental.rsnn.streams import stream

CUE, CUE_ON, RECALL = 150, 100, 150
MAJORITY = 0.7
PERIODS = (1000, 500, 333, 200)


class Sample(NamedTuple):
    """Inputs `[T, B, P]` and what is asked for: a curve `[T, B, 1]`, or classes `[B]` int64."""

    x: Tensor
    target: Tensor


class Task(Protocol):
    """What a trainer needs of a task."""

    inputs: int
    outputs: int

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return the samples of one update."""

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return what is minimised, a scalar."""

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return `error`, and perhaps more; a mean over samples."""


class Pattern:
    """Draw a sum of four sines of random weight and phase while the same noise plays, sample after sample.

    Loss: half the squared error, summed over steps. Error: squared error over the curve's variance.
    """

    def __init__(self, config: TaskConfig, learn: LearnConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        self.inputs, self.outputs = config.inputs, 1
        time = torch.arange(config.steps) / 1.0
        curve = torch.zeros(config.steps)
        for period in PERIODS:
            weight, phase = 0.5 + 1.5 * torch.rand((), generator=generator), torch.rand((), generator=generator)
            curve += weight * torch.sin(2 * math.pi * (time / period + phase))
        self.curve = (curve / curve.abs().max()).view(-1, 1, 1)
        noise = torch.rand(config.steps, 1, config.inputs, generator=generator)
        self.noise = (noise < config.rate_hz / 1000).float()

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return the one sample there is, as often as asked."""
        return Sample(self.noise.expand(-1, samples, -1), self.curve.expand(-1, samples, -1))

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return `1/2 sum_t (y - y*)^2`."""
        return 0.5 * (y - target).square().sum() / y.shape[1]

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the normalised error."""
        return {"error": (y - target).square().mean() / target.var(0, unbiased=False).mean()}


class Evidence:
    """Cues left and right, a delay, then the question: on which side were there more?

    Four groups of inputs: left and right cues (the first 100 of 150 steps each), recall (the last 150 steps), and noise
    at a quarter of the rate all along. A trial leans to one side: each cue comes from there with probability 0.7.
    Loss: cross-entropy of the softmax, mean over the recall. Answer: the side that is likelier in its mean.
    """

    def __init__(self, config: TaskConfig, learn: LearnConfig) -> None:
        self.inputs, self.outputs, self.cues = config.inputs, 2, config.cues
        self.length, self.rate = config.cues * CUE + config.steps, config.rate_hz / 1000

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return new trials."""
        generator = stream(seed, step)
        right = torch.where(torch.rand(samples, 1, generator=generator) < 0.5, MAJORITY, 1 - MAJORITY)
        cues = (torch.rand(samples, self.cues, generator=generator) < right).long()
        rates = torch.zeros(self.length, samples, 4)
        for i, side in enumerate(cues.t()):
            rates[i * CUE : i * CUE + CUE_ON] += self.rate * F.one_hot(side, 4)
        rates[-RECALL:, :, 2] = self.rate
        rates[:, :, 3] = self.rate / 4
        rates = rates.repeat_interleave(self.inputs // 4, -1)
        x = (torch.rand(rates.shape, generator=generator) < rates).float()
        return Sample(x, (2 * cues.sum(1) > self.cues).long())

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return the mean cross-entropy of the recall."""
        recall = y[-RECALL:]
        return F.cross_entropy(recall.flatten(0, 1), target.expand(RECALL, -1).flatten())

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the share of wrong sides."""
        answers = y[-RECALL:].softmax(-1).mean(0).argmax(-1)
        return {"error": (answers != target).float().mean()}


class Classes:
    """Noisy trains of C classes, each a set of rates of the inputs; the output that fires most is the answer.

    In each class a fifth of the inputs fires at the full rate, the others at a tenth of it. Loss: cross-entropy of
    `softmax(rates / temperature)`, or `max(0, wanted - margin)`. The margin is the right output's over the best of
    the others; an answer without one is wrong.
    """

    def __init__(self, config: TaskConfig, learn: LearnConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        self.inputs, self.outputs, self.length = config.inputs, config.classes, config.steps
        order = torch.rand(config.classes, config.inputs, generator=generator).argsort(-1)
        active = order < max(1, config.inputs // 5)
        self.rates = torch.where(active, 1.0, 0.1) * config.rate_hz / 1000
        self.learn = learn

    def draw(self, seed: int, step: int, samples: int) -> Sample:
        """Return new trains of random classes."""
        generator = stream(seed, step)
        classes = torch.randint(0, self.outputs, (samples,), generator=generator)
        noise = torch.rand(self.length, samples, self.inputs, generator=generator)
        return Sample((noise < self.rates[classes]).float(), classes)

    def loss(self, y: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of mean rates, or the hinge on their margin."""
        if self.learn.loss == "margin":
            return margin_hinge(mean_rate(y), target, self.learn.margin)
        return rate_cross_entropy(mean_rate(y), target, self.learn.temperature)

    def scores(self, y: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the share of answers that are not clearly right, and the mean margin."""
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
