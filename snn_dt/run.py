"""A training run: the dataset, model, batches and training state that a configuration describes."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import torch

from snn_dt.checkpoint import was_saved
from snn_dt.config import Config, config_to_dict, save_config, validate
from snn_dt.data import Trajectories
from snn_dt.device import set_threads, tune_allocator
from snn_dt.evaluation.calibration import calibration
from snn_dt.evaluation.rollout import evaluate
from snn_dt.learning.slopes import make_schedule
from snn_dt.models import build_model
from snn_dt.models.norms import set_transition
from snn_dt.models.positions import note_longest_episode
from snn_dt.rule_config import local_rule
from snn_dt.run_checkpoint import restore_run, save_run
from snn_dt.run_folder import lock_run_folder
from snn_dt.task import can_evaluate, load_trajectories, make_policy, rtg_scale, shape_of, stacked, worth_asking
from snn_dt.training.batches import training_batches, validation_loss
from snn_dt.training.console import Console
from snn_dt.training.distributed import Workers
from snn_dt.training.loop import Callbacks
from snn_dt.training.loop import train as train_loop
from snn_dt.training.signals import StopSignal
from snn_dt.training.sinks import MetricSink, MetricSinks, Rows
from snn_dt.training.state import TrainingState, make_optimizer
from snn_dt.training.tracking import Tracker


def train(config: Config, run_dir: str | Path | None = None, data: Trajectories | None = None) -> Run:
    """Train a model as `config` says and return the finished run.

    ```
    run = snn_dt.train(snn_dt.load_config("configs/cartpole.yaml"))
    run.policy                  # acts in the environment, see `snn_dt.Policy`
    run.rows                    # the last evaluation, one row per target return
    run.run_dir                 # snn_dt.from_pretrained(run.run_dir) loads the policy again
    ```

    Args:
        config: the whole configuration, see `snn_dt.load_config`.
        run_dir: a new folder for metrics and checkpoints; None makes one under `runs/`.
        data: the trajectories to learn from, in place of `config.data.dataset`.

    Raises:
        SnnDtError: configuration, dataset, environment, device or folder cannot be used.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the run is saved and can be resumed.
    """
    validate(config)
    folder = new_run_folder(config) if run_dir is None else Path(run_dir)
    with lock_run_folder(folder):
        run = Run(config, folder, data=data)
        if (signum := run.train()) is not None:
            raise KeyboardInterrupt(signum)
    return run


def new_run_folder(config: Config) -> Path:
    """Return the name of a new run folder, made of dataset, kind of model, seed and time."""
    dataset = config.data.dataset.rstrip("/").removeprefix("datasets/").rpartition(":")[2]
    name = "-".join(part for part in dataset.removesuffix(".hdf5").split("/") if part not in ("", ".", ".."))
    return Path("runs") / f"{name[:100]}-{config.model.kind}-seed{config.train.seed}-{datetime.now():%Y%m%d-%H%M%S}"


class Run:
    """A training run in its folder, with `config.yaml`, `metrics.jsonl` and the checkpoints `last` and `best`.

    Args:
        config: the whole configuration. It is written to the folder.
        run_dir: a new folder. With `resume` it is that of an earlier run.
        resume: restore weights, optimizer, generators and counters from `checkpoints/last` if it exists.
        trust: make the environment that the dataset describes with all its imports (`snn_dt.data.env_spec`).
        data: the trajectories to learn from; None loads `config.data.dataset`.

    Attributes:
        policy: the trained policy.
        rows: the last evaluation, one row per target return.

    Raises:
        SnnDtError: dataset, environment, device or folder cannot be used.
    """

    def __init__(
        self,
        config: Config,
        run_dir: Path,
        resume: bool = False,
        trust: bool = False,
        data: Trajectories | None = None,
    ) -> None:
        if data is not None:
            # The saved configuration names the data that were used.
            found = replace(config.data, dataset=data.dataset_id, reward_mode=data.reward_mode)
            config = replace(config, data=found)
        self.config = config = replace(config, model=config.model.resolved())
        self.run_dir, self.resume = run_dir, resume
        self.rows: Rows = []
        self.workers = Workers(config.train.device)
        self.workers.check(config.train.batch_size, config.train.accumulate, config.train.stateful)
        self.device = self.workers.device
        tune_allocator()
        self.threads = set_threads(config.train.threads, self.workers.local_size)

        if data is None:
            data = self.workers.first_here(lambda: load_trajectories(config, trust))
        self.trajectories = data = stacked(data, config.data.frame_stack)
        scale = rtg_scale(config, self.trajectories)
        train_episodes, held_out = self.trajectories.split(config.data.validation_fraction, config.data.split_seed)
        self.batches = training_batches(config, self.trajectories, train_episodes, scale, self.workers)

        torch.manual_seed(config.train.seed)
        self.task = shape_of(config, self.trajectories, scale)
        model = build_model(config.model, self.task).to(self.device)
        note_longest_episode(model, self.trajectories.max_episode_length)
        set_transition(model, config.model.norm_transition, config.train.steps * config.train.accumulate)
        if config.train.rule == "eprop":
            local_rule("use_eprop")(model, config.train.eprop, config.train.seed)
        self.policy = make_policy(model, self.trajectories, config, scale)
        self.policy.trust = trust
        self.validate = (
            validation_loss(config, self.trajectories, held_out, scale, model)
            if len(held_out) and self.workers.first
            else None
        )

        self.state = TrainingState(make_optimizer(config.train, model), slopes=make_schedule(config))
        self.state.workers = self.workers
        if config.train.plasticity.eta:
            self.state.plasticity = local_rule("TrainingPlasticity")(config.train.plasticity, model)
        if resume and was_saved(run_dir):
            restore_run(self)
        self.workers.begin(model, config.train.seed, self.state.step)
        self.evaluates = self.workers.first and can_evaluate(config, self.policy)

    def train(self) -> int | None:
        """Train to the end or to a signal. Returns the number of the signal, or None at the end.

        With several processes only the first one evaluates, logs and writes to the folder.
        """
        if not self.workers.first:
            with self._stop_signal() as stop:
                finished = self._train(MetricSinks(), stop)
            self.workers.leave()
            return None if finished else stop.signum
        if not self.resume:
            save_config(self.config, self.run_dir / "config.yaml")
        step, measured = (self.state.step, self.state.evaluated_at) if self.resume else (None, None)
        settings, plain = self.config.track, config_to_dict(self.config)
        tracker, finished = Tracker(self.run_dir, settings, plain, step, resume_measured=measured), False
        try:
            with Console() as console, self._stop_signal() as stop:
                for line in self._description():
                    console.print(line)
                console.start(self.config.train.steps, self.state.step, lambda: self.state.step)
                finished = self._train(MetricSinks(tracker, console), stop, console)
            self._log_end(tracker)
            for name in ("last", "best"):
                tracker.log_checkpoint(self.run_dir / "checkpoints" / name, [name])
        finally:
            tracker.finish(0 if finished else 1)
        self.workers.leave()
        return None if finished else stop.signum

    def _log_end(self, tracker: Tracker) -> None:
        """Record the calibration of the last evaluation. Send its figures, and a video if configured, to trackers."""
        if not self.rows or self.state.evaluated_at != self.state.step:
            return
        if (found := calibration(self.rows, self.trajectories.episode_returns)) is not None:
            numbers = {"error": found.error, "rank_correlation": found.rank_correlation}
            tracker.log(self.state.step, {"calibration": numbers})
        if not tracker.active:
            return
        from snn_dt.report.media import policy_media

        folder = self.run_dir / "videos" if self.config.track.video else None
        options = {"seed": self.config.eval.seed, "env_id": self.config.eval.env_id}
        returns, kind = self.trajectories.episode_returns, self.config.model.kind
        tracker.log_media(
            self.state.step, policy_media(self.policy, self.rows, returns, kind, folder, tracker.say, **options)
        )

    def _train(self, sink: MetricSink, stop: StopSignal, console: Console | None = None) -> bool:
        evaluation = (lambda: self.evaluate(stop, console)) if self.evaluates else None
        callbacks = Callbacks(sink, partial(save_run, self), evaluation, self.validate, stop)
        return train_loop(self.config.train, self.policy.model, self.batches, callbacks, self.state)

    def _stop_signal(self) -> StopSignal:
        # torchrun passes on a Ctrl-C that the terminal has sent to all processes already.
        return StopSignal(echo=1.0 if self.workers.world_size > 1 else 0.0)

    def evaluate(self, stop: StopSignal | None = None, console: Console | None = None) -> Rows:
        """Roll the policy out as the configuration says; a requested stop raises `StopRequestedError`."""
        settings = self.config.eval
        self.policy.model.eval()

        def progress(done: float, total: int) -> None:
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

    def _description(self) -> list[str]:
        """Return the lines that a run begins with."""
        config, data, returns = self.config, self.trajectories, self.trajectories.episode_returns
        parameters = sum(p.numel() for p in self.policy.model.parameters())
        processes = f" in each of {self.workers.world_size} processes" if self.workers.world_size > 1 else ""
        lines = [
            f"run folder   {self.run_dir}",
            f"dataset      {data.dataset_id}: {data.n_episodes} episodes, {data.n_steps} steps, return "
            f"{returns.mean():.1f} on average, {returns.max():.1f} at best",
            *self._targets(),
            f"model        {config.model.kind}, {parameters:,} parameters{self._neurons()}",
            f"recipe       learning rate {config.train.learning_rate:g}, {config.train.schedule}, warm-up of "
            f"{config.train.warmup_steps}, {config.train.batch_size} windows of {config.model.context_length} steps",
            f"training     updates {self.state.step} to {config.train.steps} on {self.device}, {self.threads} threads"
            f"{processes}",
        ]
        if not self.evaluates:
            missing = "the dataset names no environment, see --eval.env_id"
            lines.append(f"evaluation   none: {missing if config.eval.episodes else '--eval.episodes is 0'}")
        return lines

    def _targets(self) -> list[str]:
        """Return the lines about returns-to-go: their scale and the targets, asked and worth asking for."""
        if not self.config.model.reads_return:
            return []
        chosen = "--data.rtg_scale" if self.config.data.rtg_scale else "the largest of the data"
        asked = [self.policy.spec.target(x) for x in self.config.eval.target_return or (None,)]
        worth = ", ".join(f"{value:.4g} ({what})" for value, what in worth_asking(self.trajectories).items())
        return [
            f"return scale {self.policy.spec.rtg_scale:.4g} ({chosen})",
            f"targets      {', '.join(f'{target:g}' for target in asked)}",
            f"             worth asking for: {worth}",
        ]

    def _neurons(self) -> str:
        model = self.config.model
        if model.kind == "dense":
            return ""
        return f"; tau_mem {model.tau_mem:g}, {model.reset} reset, surrogate slope {model.surrogate_slope:g}"
