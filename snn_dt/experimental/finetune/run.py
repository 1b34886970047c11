"""A fine-tuning run in its folder, which holds the config, metrics and checkpoints `last` and `best`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import torch

from snn_dt import strict
from snn_dt.checkpoint import find_checkpoint, from_pretrained, provenance, read_json, save_checkpoint, was_saved
from snn_dt.config_difference import check_same
from snn_dt.data import load_dataset
from snn_dt.device import choose_device, set_threads, tune_allocator
from snn_dt.errors import ConfigError
from snn_dt.evaluation.rollout import evaluate, make_environments
from snn_dt.experimental.finetune.config import FinetuneConfig
from snn_dt.experimental.finetune.finetune_loop import FinetuneLoop
from snn_dt.experimental.iterations import run_iterations
from snn_dt.model_config import ModelConfig
from snn_dt.models import TaskShape
from snn_dt.training.console import Console
from snn_dt.training.sinks import MetricSinks
from snn_dt.training.state import load_training_state, restoring
from snn_dt.training.tracking import Tracker


class FinetuneRun:
    """Fine-tuning in a run folder. `snn_dt.from_pretrained` loads its checkpoints.

    Args:
        config: the whole configuration.
        run_dir: a new folder. With `resume` it is that of an earlier run.
        resume: restore `checkpoints/last` if it exists.
        trust: make the environment that checkpoint and dataset describe, with all its imports (`data/env_spec.py`).

    Raises:
        SnnDtError: checkpoint, environment or dataset cannot be used.
    """

    def __init__(self, config: FinetuneConfig, run_dir: Path, resume: bool = False, trust: bool = False) -> None:
        self.config, self.run_dir, self.resume = config, run_dir, resume
        tune_allocator()
        set_threads(config.update.threads)
        begin = find_checkpoint(Path(config.checkpoint))
        self.policy = from_pretrained(begin, str(choose_device(config.update.device)), trust=trust)
        description = read_json(begin / "config.json")
        self.model_config = strict.build(ModelConfig, description["model"], str(begin))
        task = strict.build(TaskShape, description["task"], str(begin))
        if task.image is not None:
            raise ConfigError(
                f"checkpoint: expected a policy without images, found one of {task.image} in {config.checkpoint}; "
                "the buffer holds numbers only, train on data instead"
            )
        if task.action_parts is not None:
            raise ConfigError(
                f"checkpoint: expected a policy with Box or Discrete actions, found {self.policy.action_space} in "
                f"{config.checkpoint}; exploration is not defined for actions of several parts, train on data instead"
            )
        n = min(config.explore.episodes, config.eval.num_envs)
        envs = make_environments(self.policy, n, config.env_id, config.eval.max_steps)
        dataset = None
        if config.update.dataset:
            mode: Literal["dense", "delayed"] = "delayed" if self.policy.spec.delayed else "dense"
            dataset = load_dataset(
                config.update.dataset, reward_mode=mode, action_space=self.policy.action_space, trust=trust
            )
            self._check_fits(dataset)
        torch.manual_seed(config.update.seed)
        self.loop = FinetuneLoop(self.policy, config, envs, dataset)
        self.rows: list[dict[str, Any]] = []
        self.best = -math.inf
        self.console = Console()
        if resume and was_saved(run_dir):
            self._restore()

    def train(self) -> int | None:
        """Fine-tune to the last iteration or to the one in which a signal arrives. Returns the signal."""
        update = self.config.update
        return run_iterations(
            *(self.config, self.run_dir, self.console, update.iterations),
            self.loop.iteration if self.resume else None,
            update.save_every,
            iterate=self._iterate,
            save=lambda: self._save("last"),
            before=self._evaluate,
        )

    def _iterate(self, tracker: Tracker) -> int:
        loop, update = self.loop, self.config.update
        torch.manual_seed(update.seed + 1_000_003 * loop.iteration)  # dropout of this iteration
        metrics = loop.iterate()
        tracker.log(loop.iteration, metrics)
        self.console.log(loop.iteration, {"loss": math.nan, **metrics})  # an iteration may have made no update
        if loop.iteration % update.eval_every == 0 or loop.iteration == update.iterations:
            self._evaluate(tracker)
        return loop.iteration

    def _evaluate(self, tracker: Tracker) -> None:
        e = self.config.eval
        self.rows = evaluate(
            self.policy,
            e.target_return,
            episodes=e.episodes,
            seed=e.seed,
            num_envs=e.num_envs,
            env_id=self.config.env_id,
            max_steps=e.max_steps,
        )
        MetricSinks(tracker, self.console).log_evaluation(self.loop.iteration, self.rows)
        if self.rows[0]["return_mean"] > self.best:
            self.best = self.rows[0]["return_mean"]
            self._save("best")

    def _save(self, name: str) -> None:
        facts = provenance(
            **{key: value for key, value in self.policy.provenance.items() if key.startswith("dataset_")},
            env_id=self.config.env_id or self.policy.spec.env_id,
            seed=self.config.update.seed,
            step=self.loop.iteration,
            env_steps=self.loop.env_steps,
            finetune=strict.to_dict(self.config),
        )
        state = self.loop.state_dict() | {"best": self.best} if name == "last" else None
        folder = self.run_dir / "checkpoints" / name
        task = self.loop.tuner.model.task  # new episodes may have widened its returns
        save_checkpoint(folder, self.policy, self.model_config, task, facts, state)

    def _restore(self) -> None:
        checkpoint = find_checkpoint(self.run_dir)
        check_same(self.config, read_json(checkpoint / "provenance.json").get("finetune"), self.run_dir)
        values = load_training_state(checkpoint, self.policy.device)
        with restoring(checkpoint):
            self.loop.load_state_dict(values)
            self.best = values["best"]

    def _check_fits(self, dataset: Any) -> None:
        model: Any = self.policy.model
        found = (dataset.obs_dim, dataset.action_dim, dataset.discrete)
        expected = (model.state_dim, model.action_dim, model.discrete)
        if found != expected:
            raise ConfigError(
                f"update.dataset: expected (observation size, action size, discrete) {expected} of "
                f"{self.config.checkpoint}, found {found} in {self.config.update.dataset}; name the dataset that the "
                "model was trained on, or leave it out"
            )
