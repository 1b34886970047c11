"""The training loop: batch, loss, gradient, update; evaluation, record and checkpoints are handed in.

B windows of K steps; see `snn_dt.data.windows.Batch` for the shapes of a batch.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from snn_dt.config import TrainConfig
from snn_dt.data.windows import Batch
from snn_dt.errors import TrainingError
from snn_dt.learning.slopes import score_of, set_slope
from snn_dt.snn.probe import Probe
from snn_dt.training.distributed import Workers
from snn_dt.training.gradient import make_gradient
from snn_dt.training.optimizer import learning_rate
from snn_dt.training.signals import StopRequestedError, StopSignal
from snn_dt.training.state import TrainingState

Rows = list[dict[str, Any]]


class Record(Protocol):
    """Where metrics go: a `Tracker`, a `Console`, or both."""

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Take the metrics of one step."""

    def log_evaluation(self, step: int, rows: Rows) -> None:
        """Take the rows of an evaluation."""


def train(
    config: TrainConfig,
    model: nn.Module,
    draw: Callable[[int], Batch],
    record: Record,
    save: Callable[[str, TrainingState], None],
    state: TrainingState,
    stop: StopSignal,
    evaluate: Callable[[], Rows] | None = None,
    validate: Callable[[], float] | None = None,
    workers: Workers | None = None,
) -> bool:
    """Train `model` from `state` to `config.steps` updates, or until `stop`.

    Args:
        config: the optimisation.
        model: see `snn_dt.models.DecisionTransformer`.
        draw: the batch of an update, a pure function of its number; on the model's device.
        record: takes metrics.
        save: writes the checkpoint `last` or `best`.
        state: optimizer and counters, fresh or resumed.
        stop: polled between updates and, through `evaluate`, inside an evaluation.
        evaluate: rolls the policy out; its first row's return decides which checkpoint is `best`.
        validate: loss on held-out episodes; decides instead where there is no `evaluate`.
        workers: the processes that share the work, each with its slice of every batch; None is this one alone.

    Returns:
        Whether all updates are done.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    device = next(model.parameters()).device
    workers = workers or Workers(device.type)
    parameters, gradient = list(model.parameters()), make_gradient(config, model, state)
    begin, begin_step, last_slope, saved = time.perf_counter(), state.step, None, -1

    def save_last() -> None:
        nonlocal saved
        _check_finite(state, config.grad_clip)
        save("last", state)
        saved = state.step

    while True:
        done = state.step >= config.steps
        due = done or _due(state.step, config.eval_every)
        if due and state.evaluated_at != state.step and stop.signum is None:
            if saved != state.step:
                save_last()  # an evaluation takes long, and can fail
            model.eval()
            with contextlib.suppress(StopRequestedError):
                _evaluate(state, record, save, evaluate, validate, config.slope_schedule.score)
                save_last()  # or a run that is killed later would evaluate, and record, a second time
            begin, begin_step = time.perf_counter(), state.step
        agreed = workers.agree(stop.signum)
        if done or agreed is not None:
            stop.signum = stop.signum or agreed
            break

        model.train()
        if state.slopes is not None:
            slope = state.slopes.slope(state.step)
            if config.slope_schedule.kind == "adaptive":
                slope = workers.from_first(slope)  # the others have seen no evaluation
            if slope != last_slope:
                set_slope(model, slope, config.slope_schedule.layers)
                last_slope = slope
        batch = draw(state.step)
        rate = learning_rate(config, state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        valid = workers.sum(batch.attention_mask.sum())
        progress = valid.new_full((), state.step / config.steps, dtype=torch.float64)
        totals, grads = gradient(*batch.fields, valid, progress)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        state.add(workers.sum_gradients(model, totals))
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
        state.add({"grad_norm": norm.detach()})
        state.optimizer.step()
        if state.plasticity is not None:
            state.add(state.plasticity.apply(workers.sum))
        state.step += 1

        if _due(state.step, config.log_every) or state.step == config.steps:
            _check_finite(state, config.grad_clip)
            metrics = state.take_means()
            metrics |= {"learning_rate": rate, **firing_rates(model, batch)}
            if last_slope is not None:
                metrics["surrogate_slope"] = last_slope
            metrics["steps_per_second"] = (state.step - begin_step) / (time.perf_counter() - begin)
            record.log(state.step, metrics)
        if _due(state.step, config.save_every):
            save_last()
    if saved != state.step:
        save_last()
    return state.step >= config.steps and state.evaluated_at == state.step


@torch.no_grad()
def firing_rates(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Return `firing_rate` and `firing_rate/<layer>` on a batch, pads left out; empty for a model without spikes."""
    model.eval()
    mask = batch.attention_mask
    tokens = model.token_mask(mask)
    with Probe(model) as probe:
        model(*batch.fields)
        rates = probe.firing_rates({mask.shape[1]: mask, tokens.shape[1]: tokens})
    model.train()
    if not rates:
        return {}
    return {"firing_rate": sum(rates.values()) / len(rates), **{f"firing_rate/{k}": v for k, v in rates.items()}}


def _evaluate(
    state: TrainingState,
    record: Record,
    save: Callable[[str, TrainingState], None],
    evaluate: Callable[[], Rows] | None,
    validate: Callable[[], float] | None,
    slope_score: str,
) -> None:
    """Validate and evaluate; keep the best model so far as `best` (the newest where nothing is measured)."""
    # Both are done before either is recorded: a stop in between would record the first one twice.
    loss = None if validate is None else validate()
    rows = None if evaluate is None else evaluate()
    score = state.best_score
    if loss is not None:
        record.log(state.step, {"validation_loss": loss})
        score = -loss
    if rows is not None:
        record.log_evaluation(state.step, rows)
        score = rows[0]["return_mean"]
    if state.slopes is not None:
        state.slopes.observe(score_of(slope_score, rows, loss))
    state.evaluated_at = state.step
    if score >= state.best_score:
        state.best_score = score
        save("best", state)


def _check_finite(state: TrainingState, grad_clip: float) -> None:
    """Look at the losses and gradients since the last record: a model that one of them has spoilt is not kept."""
    for name in ("loss", "grad_norm"):
        total = float(state.sums.get(name, 0.0))
        if not math.isfinite(total):
            clip = "lower --train.grad_clip" if grad_clip else "set --train.grad_clip, which is 0, to 1"
            raise TrainingError(
                f"expected a finite {name}, found {total} by update {state.step}; lower --train.learning_rate or "
                f"{clip} (a checkpoint, if one was saved, is from before)"
            )


def _due(step: int, every: int) -> bool:
    return every > 0 and step > 0 and step % every == 0
