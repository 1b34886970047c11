"""The training loop: evaluate, draw a batch, compute the gradient, update the weights, log, save.

B windows of K steps; see `snn_dt.data.windows.Batch` for the shapes of a batch.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor, nn

from snn_dt.config import TrainConfig
from snn_dt.data.windows import Batch
from snn_dt.learning.slopes import score_of, set_slope
from snn_dt.snn.backends import wide
from snn_dt.training.distributed import Workers
from snn_dt.training.gradient import make_gradient
from snn_dt.training.signals import StopRequestedError, StopSignal
from snn_dt.training.sinks import MetricSink, Rows, firing_rates
from snn_dt.training.state import TrainingState, learning_rate


@dataclass(frozen=True)
class Callbacks:
    """Functions that connect the loop to a run folder, an environment and a terminal."""

    log: MetricSink
    """Receives metrics and evaluations."""
    save: Callable[[str, TrainingState], None]
    """Writes the checkpoint `last` or `best`."""
    evaluate: Callable[[], Rows] | None = None
    """Evaluates the policy. The return of the first row decides which checkpoint is `best`."""
    validate: Callable[[], float] | None = None
    """Returns the loss on held-out episodes. It decides on `best` if there is no `evaluate`."""
    stop: StopSignal = field(default_factory=StopSignal)
    """Checked between updates, and by `evaluate` during an evaluation."""


def train(
    config: TrainConfig,
    model: nn.Module,
    batches: Callable[[int], Batch],
    callbacks: Callbacks,
    state: TrainingState,
) -> bool:
    """Train `model` from `state` to `config.steps` updates, or until a stop is requested.

    Args:
        config: the optimisation settings.
        model: a sequence model; see `snn_dt.models`.
        batches: returns the batch of an update. It is a pure function of the update's number.
        callbacks: logging, checkpoints, evaluation.
        state: a new or restored state.

    Returns:
        Whether all updates are done and evaluated.

    Raises:
        TrainingError: the loss or the gradient is not finite.
    """
    loop = TrainingLoop(config, model, batches, callbacks, state)
    while True:
        loop.evaluate_if_due()
        if loop.stop_requested() or loop.finished:
            break
        batch = loop.one_update()
        loop.log_if_due(batch)
        loop.save_if_due()
    loop.save_last()
    return loop.finished and state.evaluated_at == state.step


@dataclass
class TrainingLoop:
    """The steps of `train`, with the same arguments."""

    config: TrainConfig
    model: nn.Module
    batches: Callable[[int], Batch]
    callbacks: Callbacks
    state: TrainingState
    slope: float | None = None
    """Slope last set by the schedule."""

    def __post_init__(self) -> None:
        self.parameters = list(self.model.parameters())
        self.device = self.parameters[0].device
        self.workers = self.state.workers or Workers(self.device.type)
        self.gradient = make_gradient(self.config, self.model, self.state)
        self._saved_at = -1
        self._start_clock()

    @property
    def finished(self) -> bool:
        """Whether all updates are done."""
        return self.state.step >= self.config.steps

    def stop_requested(self) -> bool:
        """Return whether any process has received a signal. All processes then stop after the same update."""
        stop = self.callbacks.stop
        agreed = self.workers.agree(stop.signum)
        stop.signum = stop.signum or agreed
        return agreed is not None

    def one_update(self) -> Batch:
        """Make one update of the weights and return its batch."""
        self.model.train()
        self.set_surrogate_slope()
        batch = self.draw()
        # All processes divide by the same number of valid steps, so their gradients add up to that of the batch.
        valid = self.workers.sum(batch.attention_mask.sum())
        # On the device, since a captured gradient reads its inputs there.
        progress = valid.new_full((), self.state.step / self.config.steps, dtype=wide(valid.device))
        metrics, gradients = self.gradient(*batch.fields, valid, progress)
        self.update(metrics, gradients)
        return batch

    def draw(self) -> Batch:
        """Return the batch of the next update on the model's device."""
        return self.batches(self.state.step).to(self.device, non_blocking=True)

    def update(self, metrics: dict[str, Tensor], gradients: list[Tensor | None]) -> None:
        """Sum the gradients over the processes, clip them and make an optimizer step."""
        state, optimizer = self.state, self.state.optimizer
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.config, state.step)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # A CUDA graph returns static tensors, which the optimizer reads from `.grad`.
            parameter.grad = gradient
        state.add(self.workers.sum_gradients(self.model, metrics))
        # A limit of infinity only measures the norm.
        norm = nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip or math.inf)
        state.add({"grad_norm": norm.detach()})
        optimizer.step()
        if state.plasticity is not None:
            state.add(state.plasticity.apply(self.workers.sum))
        state.step += 1

    def set_surrogate_slope(self) -> None:
        """Set the slope of this update if it differs from the last one."""
        if self.state.slopes is None:
            return
        slope = self.state.slopes.slope(self.state.step)
        if self.config.slope_schedule.kind == "adaptive":
            slope = self.workers.from_first(slope)  # only the first process sees evaluations
        if slope != self.slope:
            set_slope(self.model, slope, self.config.slope_schedule.layers)
            self.slope = slope

    def log_if_due(self, batch: Batch) -> None:
        """Log means over the updates since the last line, every `log_every` updates and after the last update."""
        config, state = self.config, self.state
        if not (_due(state.step, config.log_every) or self.finished):
            return
        state.check_finite(config.grad_clip)
        metrics = state.take_means()
        # `step` is already that of the next update.
        metrics |= {"learning_rate": learning_rate(config, state.step - 1), **firing_rates(self.model, batch)}
        if self.slope is not None:
            metrics["surrogate_slope"] = self.slope
        metrics["steps_per_second"] = (state.step - self._clock_step) / (time.perf_counter() - self._clock)
        self.callbacks.log.log(state.step, metrics)

    def save_if_due(self) -> None:
        """Save every `save_every` updates."""
        if _due(self.state.step, self.config.save_every):
            self._save()

    def save_last(self) -> None:
        """Save unless the checkpoint of this update exists."""
        if self._saved_at != self.state.step:
            self._save()

    def evaluate_if_due(self) -> None:
        """Evaluate every `eval_every` updates and after the last update, unless a stop is requested."""
        state = self.state
        due = self.finished or _due(state.step, self.config.eval_every)
        if not due or state.evaluated_at == state.step or self.callbacks.stop.signum is not None:
            return
        self.save_last()  # an evaluation is slow and can fail
        self.model.eval()
        with contextlib.suppress(StopRequestedError):
            self._evaluate()
            self._save()  # otherwise a run killed later would evaluate and log again
        self._start_clock()

    def _evaluate(self) -> None:
        """Validate and evaluate. Save the best model as `best`; without any measure save the newest one."""
        callbacks, state = self.callbacks, self.state
        # Both run before either is logged: after a stop between them a resumed run would log the first one twice.
        loss = None if callbacks.validate is None else callbacks.validate()
        rows = None if callbacks.evaluate is None else callbacks.evaluate()
        score = state.best_score
        if loss is not None:
            callbacks.log.log(state.step, {"validation_loss": loss})
            score = -loss
        if rows is not None:
            callbacks.log.log_evaluation(state.step, rows)
            score = rows[0]["return_mean"]
        if state.slopes is not None:
            state.slopes.observe(score_of(self.config.slope_schedule.score, rows, loss))
        state.evaluated_at = state.step
        # `>=`: of equal scores the newer model is kept.
        if score >= state.best_score:
            state.best_score = score
            callbacks.save("best", state)

    def _save(self) -> None:
        self.state.check_finite(self.config.grad_clip)
        self.callbacks.save("last", self.state)
        self._saved_at = self.state.step

    def _start_clock(self) -> None:
        self._clock, self._clock_step = time.perf_counter(), self.state.step


def _due(step: int, every: int) -> bool:
    return every > 0 and step > 0 and step % every == 0
