"""The training loop: batch, loss, gradient, update; evaluation, record and checkpoints are handed in.

B windows of K steps; see `snn_dt.data.windows.Batch` for the shapes of a batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from snn_dt.config import TrainConfig
from snn_dt.data.windows import Batch
from snn_dt.errors import TrainingError
from snn_dt.learning.losses import action_loss
from snn_dt.snn.probe import Probe
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

    Returns:
        Whether all updates are done.

    Raises:
        TrainingError: the loss is no longer finite.
    """
    device = next(model.parameters()).device
    forward = torch.compile(model) if config.compile else model
    half_range = _half_range(model)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    begin, begin_step = time.perf_counter(), state.step
    while True:
        done = state.step >= config.steps
        if (done or _due(state.step, config.eval_every)) and state.evaluated_at != state.step:
            model.eval()
            try:
                _evaluate(state, record, save, evaluate, validate)
            except StopRequestedError:
                done = False
            begin, begin_step = time.perf_counter(), state.step
        if done or stop.signum is not None:
            break

        model.train()
        batch = draw(state.step)
        rate = learning_rate(config, state.step)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.zero_grad(set_to_none=True)
        valid = batch.attention_mask.sum()
        for part in _split(batch, config.accumulate):
            with autocast:
                predictions = forward(part.rtg, part.states, part.actions, part.timesteps, part.attention_mask)
            loss, metrics = action_loss(predictions.float(), part.actions, part.attention_mask, half_range)
            # Weighted by its real steps, so that the parts add up to the loss of the whole batch.
            share = part.attention_mask.sum() / valid
            (loss * share).backward()
            state.add({name: value * share for name, value in metrics.items()})
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
        state.add({"grad_norm": norm.detach()})
        state.optimizer.step()
        state.step += 1

        if _due(state.step, config.log_every) or state.step == config.steps:
            metrics = state.take_means()
            metrics |= {"learning_rate": rate, **firing_rates(model, batch)}
            metrics["steps_per_second"] = (state.step - begin_step) / (time.perf_counter() - begin)
            record.log(state.step, metrics)
            _check_finite(metrics["loss"], state.step)
        if _due(state.step, config.save_every) and state.step < config.steps:
            _check_finite(float(state.sums.get("loss", 0.0)), state.step)
            save("last", state)
    save("last", state)
    return state.step >= config.steps and state.evaluated_at == state.step


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of update `step` (from 0): linear warm-up, then a cosine to 0, or constant."""
    warm = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.schedule == "constant":
        return config.learning_rate * warm
    rest = max(config.steps - config.warmup_steps, 1)
    progress = min(max(step - config.warmup_steps, 0) / rest, 1.0)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """Make AdamW with weight decay on matrices only: not on biases, norms and phases."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


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
) -> None:
    """Validate and evaluate; keep the best model so far as `best` (the newest where nothing is measured)."""
    score = math.inf
    if validate is not None:
        loss = validate()
        record.log(state.step, {"validation_loss": loss})
        score = -loss
    if evaluate is not None:
        rows = evaluate()
        record.log_evaluation(state.step, rows)
        score = rows[0]["return_mean"]
    state.evaluated_at = state.step
    if score >= state.best_score or not math.isfinite(score):
        state.best_score = score if math.isfinite(score) else state.best_score
        save("best", state)


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"expected a finite loss, found {loss} by update {step}; lower --train.learning_rate or --train.grad_clip "
            "(the last checkpoint is from before)"
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step > 0 and step % every == 0


def _split(batch: Batch, parts: int) -> list[Batch]:
    if parts == 1:
        return [batch]
    fields = (batch.rtg, batch.states, batch.actions, batch.timesteps, batch.attention_mask)
    return [Batch(*part) for part in zip(*(f.chunk(parts) for f in fields), strict=True)]


def _half_range(model: nn.Module) -> Tensor | None:
    head: Any = getattr(model, "head", None)
    return (head.high - head.low) / 2 if getattr(head, "bounded", False) else None
