"""A run: everything between a configuration and a trained policy, put together."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from snn_dt.checkpoint import find_checkpoint, provenance, read_json, read_tensors, save_checkpoint, was_saved
from snn_dt.config import Config, config_to_dict, save_config
from snn_dt.config_difference import check_same
from snn_dt.data import Windows, load_dataset
from snn_dt.data.episode_streams import EpisodeStreams
from snn_dt.data.oversampling import BEST, OversampledWindows
from snn_dt.data.windows import Batch
from snn_dt.device import keep_memory, set_threads
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.evaluation.environments import make_environment
from snn_dt.evaluation.rollout import evaluate
from snn_dt.learning.eprop_blocks import use_eprop
from snn_dt.learning.losses import loss_of
from snn_dt.learning.plasticity import TrainingPlasticity
from snn_dt.learning.slopes import make_schedule
from snn_dt.models import build_model
from snn_dt.models.norms import set_transition
from snn_dt.task import action_space, make_policy, rtg_scale, task_shape
from snn_dt.training.console import Console
from snn_dt.training.distributed import Workers
from snn_dt.training.loop import train
from snn_dt.training.optimizer import make_optimizer
from snn_dt.training.prefetch import Prefetch
from snn_dt.training.signals import StopSignal
from snn_dt.training.sinks import Record
from snn_dt.training.state import TrainingState, load_training_state
from snn_dt.training.tracking import Tracker


class Run:
    """A training run in its folder: `config.yaml`, `metrics.jsonl`, `checkpoints/last`, `checkpoints/best`.

    Args:
        config: the whole configuration; written to the folder, resolved.
        run_dir: a new folder, or, with `resume`, one that an earlier run left.
        resume: take weights, optimizer, generators and counters from `checkpoints/last`, if it got that far.
        trust: make the environment that the dataset describes, whatever it imports, see `snn_dt.data.env_spec`.

    Raises:
        SnnDtError: dataset, environment, device or folder cannot be used.
    """

    def __init__(self, config: Config, run_dir: Path, resume: bool = False, trust: bool = False) -> None:
        config = replace(config, model=config.model.resolved())
        self.config, self.run_dir, self.resume = config, run_dir, resume
        self.workers = Workers(config.train.device)
        self.workers.check(config.train.batch_size, config.train.accumulate, config.train.stateful)
        self.device = self.workers.device
        keep_memory()
        self.threads = set_threads(config.train.threads, self.workers.local_size)
        data = config.data
        self.trajectories = self.workers.first_here(
            lambda: load_dataset(
                data.dataset,
                reward_mode=data.reward_mode,
                download=data.download,
                action_space=action_space(data.dataset, config.eval.env_id),
                trust=trust,
            )
        )
        train_episodes, validation_episodes = self.trajectories.split(data.validation_fraction, data.split_seed)
        self.rtg_scale = rtg_scale(config, self.trajectories)
        chosen = self.trajectories.best(train_episodes, data.filter_top)
        self._source = self._training_windows(chosen)
        self._batches = Prefetch(self._batch)
        self.held_out = self._windows(validation_episodes) if len(validation_episodes) else None

        torch.manual_seed(config.train.seed)
        self.task = task_shape(self.trajectories, self.rtg_scale)
        model = build_model(config.model, self.task).to(self.device)
        set_transition(model, config.model.norm_transition, config.train.steps * config.train.accumulate)
        if config.train.rule == "eprop":
            use_eprop(model, config.train.eprop, config.train.seed)
        self.policy = make_policy(model, self.trajectories, config, self.rtg_scale)
        self.policy.trust = trust
        self.state = TrainingState(make_optimizer(config.train, model), slopes=make_schedule(config))
        if config.train.plasticity.eta:
            self.state.plasticity = TrainingPlasticity(config.train.plasticity, model)
        if resume:
            self._restore()
        self.workers.begin(model, config.train.seed, self.state.step)
        self.evaluates = self.workers.first and self._can_evaluate()
        self.rows: list[dict[str, Any]] = []

    def train(self) -> tuple[list[dict[str, Any]], int | None]:
        """Train to the end or to a signal; returns the last evaluation's rows and the signal's number.

        Of several processes the first alone evaluates, shows, and writes to the folder.
        """
        config = self.config
        if not self.workers.first:
            with self._stop_signal() as stop:
                finished = self._loop(Record(), stop)
            self.workers.leave()
            return [], None if finished else stop.signum
        if not self.resume:
            save_config(config, self.run_dir / "config.yaml")
        step, measured = (self.state.step, self.state.evaluated_at) if self.resume else (None, None)
        tracker = Tracker(self.run_dir, config.track, config_to_dict(config), step, resume_measured=measured)
        finished = False
        try:
            with Console() as console, self._stop_signal() as stop:
                self._announce(console)
                console.start(config.train.steps, self.state.step)
                finished = self._loop(Record(tracker, console), stop, console)
            for name in ("last", "best"):
                tracker.log_checkpoint(self.run_dir / "checkpoints" / name, [name])
        finally:
            tracker.finish(0 if finished else 1)
        self.workers.leave()
        return self.rows, None if finished else stop.signum

    def _loop(self, record: Record, stop: StopSignal, console: Console | None = None) -> bool:
        return train(
            self.config.train,
            self.policy.model,
            self._draw,
            record,
            self._save,
            self.state,
            stop,
            evaluate=(lambda: self.evaluate(stop, console)) if self.evaluates else None,
            validate=self._validate if self.held_out is not None and self.workers.first else None,
            workers=self.workers,
        )

    def _stop_signal(self) -> StopSignal:
        return StopSignal(echo=1.0 if self.workers.world_size > 1 else 0.0)

    def _training_windows(self, episodes: np.ndarray) -> Windows | OversampledWindows:
        data, kind = self.config.data, EpisodeStreams if self.config.train.stateful else Windows
        every = self._windows(episodes, kind, data.rtg_augment)
        if not data.oversample_top:
            return every
        best = self._windows(self.trajectories.best(episodes, BEST), kind, data.rtg_augment)
        return OversampledWindows(every, best, data.oversample_top)

    def _windows(self, episodes: np.ndarray, kind: type[Windows] = Windows, raised: float = 0.0) -> Windows:
        context, normalize = self.config.model.context_length, self.config.data.normalize
        return kind(
            self.trajectories, context, rtg_scale=self.rtg_scale, episodes=episodes, normalize=normalize, raised=raised
        )

    def _draw(self, step: int) -> Batch:
        return self._batches(step).to(self.device, non_blocking=True)

    def _batch(self, step: int) -> Batch:
        train, workers = self.config.train, self.workers
        return self._source.batch(train.seed, step, train.batch_size, rank=workers.rank, world_size=workers.world_size)

    def evaluate(self, stop: StopSignal | None = None, console: Console | None = None) -> list[dict[str, Any]]:
        """Roll the policy out as the configuration asks; a stop raises `StopRequestedError`."""
        settings = self.config.eval
        self.policy.model.eval()

        def progress(done: int, total: int) -> None:
            if stop is not None:
                stop.check()
            if console is not None:
                console.evaluating(done, total)

        self.rows = evaluate(
            self.policy,
            settings.target_return,
            episodes=settings.episodes,
            seed=settings.seed,
            num_envs=settings.num_envs,
            env_id=settings.env_id,
            progress=progress,
            max_steps=settings.max_steps,
        )
        return self.rows

    @torch.no_grad()
    def _validate(self) -> float:
        """Mean loss on windows of the held-out episodes, the same ones every time."""
        windows, batch_size = self.held_out, self.config.train.batch_size
        assert windows is not None
        losses = []
        for step in range(max(1, min(20, len(windows) // batch_size))):
            batch = windows.batch(self.config.data.split_seed, step, batch_size).to(self.device)
            predictions = self.policy.model(*batch.fields)
            losses.append(float(loss_of(self.policy.model, batch, predictions)[0]))
        return math.fsum(losses) / len(losses)

    def _save(self, name: str, state: TrainingState) -> None:
        if not self.workers.first:
            return
        facts = provenance(
            dataset_id=self.trajectories.dataset_id,
            dataset_checksum=self.trajectories.checksum,
            dataset_return_quantiles=np.quantile(self.trajectories.episode_returns, np.linspace(0, 1, 101)).tolist(),
            reward_mode=self.trajectories.reward_mode,
            env_id=self.policy.spec.env_id,
            seed=self.config.train.seed,
            step=state.step,
            config=config_to_dict(self.config),
        )
        training_state = state.to_dict() if name == "last" else None
        save_checkpoint(
            self.run_dir / "checkpoints" / name, self.policy, self.config.model, self.task, facts, training_state
        )

    def _restore(self) -> None:
        """Take over the last checkpoint's weights and the training state beside them; without one, begin at 0."""
        if not was_saved(self.run_dir):
            return
        checkpoint = find_checkpoint(self.run_dir)
        facts = read_json(checkpoint / "provenance.json")
        check_same(self.config, facts.get("config"), self.run_dir)
        if facts.get("dataset_checksum") != self.trajectories.checksum:
            raise CheckpointError(
                f"expected the data {self.run_dir} was trained on, found other data in {self.config.data.dataset}; put "
                "the old ones back, or begin a new run"
            )
        values = load_training_state(checkpoint, self.device)
        try:
            self.policy.model.load_state_dict(read_tensors(checkpoint / "model.safetensors"))
            self.state.restore(values)
        except Exception as error:  # a damaged file or one of another version each raise their own kind
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"expected the weights and the optimizer of this run in {checkpoint}, found: {reason}; begin a new run"
            ) from error

    def _can_evaluate(self) -> bool:
        """Say now, not after hours of training, if the environment is missing, or the score a slope follows."""
        settings, slopes = self.config.eval, self.config.train.slope_schedule
        missing = {"normalized": self.policy.spec.reference, "return": settings.env_id or self.policy.spec.env_id}
        if slopes.kind == "adaptive" and missing.get(slopes.score, "") is None:
            raise ConfigError(
                "train.slope_schedule.score: expected a dataset with reference returns for normalized, with an "
                f"environment for return; found none for {slopes.score}; choose another one, loss needs neither"
            )
        if settings.episodes == 0 or (settings.env_id is None and self.policy.spec.env_id is None):
            return False
        make_environment(self.policy, settings.env_id, quiet=True).close()
        return True

    def _announce(self, console: Console) -> None:
        t, data = self.config.train, self.trajectories
        parameters = sum(p.numel() for p in self.policy.model.parameters())
        console.print(f"run folder   {self.run_dir}")
        console.print(
            f"dataset      {data.dataset_id}: {data.n_episodes} episodes, {data.n_steps} steps, return "
            f"{data.episode_returns.mean():.1f} on average, {data.episode_returns.max():.1f} at best"
        )
        console.print(f"model        {self.config.model.kind}, {parameters:,} parameters")
        console.print(
            f"training     updates {self.state.step} to {t.steps} on {self.device}, {self.threads} threads"
            + (f" in each of {self.workers.world_size} processes" if self.workers.world_size > 1 else "")
        )
        if not self.evaluates:
            asked = self.config.eval.episodes > 0
            reason = "the dataset names no environment, see --eval.env_id" if asked else "--eval.episodes is 0"
            console.print(f"evaluation   none: {reason}")
