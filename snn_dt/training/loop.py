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
from torch import Tensor, nn

from snn_dt.config import TrainConfig
from snn_dt.data.windows import Batch
from snn_dt.errors import TrainingError
from snn_dt.learning.budget import Budget
from snn_dt.learning.losses import action_loss
from snn_dt.learning.slopes import score_of, set_slope
from snn_dt.snn.probe import Probe
from snn_dt.training.carried import CarriedForward
from snn_dt.training.distributed import Workers
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
    forward = torch.compile(model) if config.compile else model
    if config.carry_state:
        forward = CarriedForward(forward, state)
    half_range = action_half_range(model)
    budget = Budget(config.budget, model) if config.budget.limits else None
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16" and _has_bf16(device))
    begin, begin_step, last_slope = time.perf_counter(), state.step, None
    while True:
        done = state.step >= config.steps
        due = done or _due(state.step, config.eval_every)
        if due and state.evaluated_at != state.step and stop.signum is None:
            _check_finite(state)
            model.eval()
            with contextlib.suppress(StopRequestedError):
                _evaluate(state, record, save, evaluate, validate, config.slope_schedule.score)
                save("last", state)  # or a run that is killed later would evaluate, and record, a second time
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
        state.optimizer.zero_grad(set_to_none=True)
        valid = workers.sum(batch.attention_mask.sum())
        totals: dict[str, Tensor] = {}
        for part in _split(batch, config.accumulate):
            with autocast, contextlib.nullcontext() if budget is None else budget.watch():
                predictions = forward(part.rtg, part.states, part.actions, part.timesteps, part.attention_mask)
            loss, metrics = action_loss(predictions.float(), part.actions, part.attention_mask, half_range)
            if state.plasticity is not None:
                state.plasticity.observe(part, predictions.float())
            if budget is not None:
                above, measured = budget.excess(state.step / config.steps, part.attention_mask)
                loss, metrics = loss + above, metrics | measured
            # Weighted by its real steps, so that parts and processes add up to the loss of the whole batch.
            share = part.attention_mask.sum() / valid
            (loss * share).backward()
            totals = {name: totals.get(name, 0) + value * share for name, value in metrics.items()}
        state.add(workers.sum_gradients(model, totals))
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
        state.add({"grad_norm": norm.detach()})
        state.optimizer.step()
        if state.plasticity is not None:
            state.add(state.plasticity.apply(workers.sum))
        state.step += 1

        if _due(state.step, config.log_every) or state.step == config.steps:
            _check_finite(state)
            metrics = state.take_means()
            metrics |= {"learning_rate": rate, **firing_rates(model, batch)}
            if last_slope is not None:
                metrics["surrogate_slope"] = last_slope
            metrics["steps_per_second"] = (state.step - begin_step) / (time.perf_counter() - begin)
            record.log(state.step, metrics)
        if _due(state.step, config.save_every) and state.step < config.steps:
            _check_finite(state)
            save("last", state)
    _check_finite(state)
    save("last", state)
    return state.step >= config.steps and state.evaluated_at == state.step


@torch.no_grad()
def firing_rates(model: nn.Module, batch: Batch) -> dict[str, float]:
    """Return `firing_rate` and `firing_rate/<layer>` on a batch, pads left out; empty for a model without spikes."""
    model.eval()
    mask = batch.attention_mask
    tokens = model.token_mask(mask)
    with Probe(model) as probe:
        model(batch.rtg, batch.states, batch.actions, batch.timesteps, mask)
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


def _check_finite(state: TrainingState) -> None:
    """Look at the losses and gradients since the last record: a model that one of them has spoilt is not kept."""
    for name in ("loss", "grad_norm"):
        total = float(state.sums.get(name, 0.0))
        if not math.isfinite(total):
            raise TrainingError(
                f"expected a finite {name}, found {total} by update {state.step}; lower --train.learning_rate or "
                "--train.grad_clip (the last checkpoint is from before)"
            )


def _due(step: int, every: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    fields = (batch.rtg, batch.states, batch.actions, batch.timesteps, batch.attention_mask)
    return [Batch(*part) for part in zip(*(f.chunk(parts) for f in fields), strict=True)]


def _has_bf16(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def action_half_range(model: nn.Module) -> Tensor | None:
    """Return half the width of each action's bounds, in which errors are measured; None where there are none."""
    head: Any = getattr(model, "head", None)
    return (head.high - head.low) / 2 if getattr(head, "bounded", False) else None
