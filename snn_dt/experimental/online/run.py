"""An online training run in its folder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from snn_dt import strict
from snn_dt.checkpoint import provenance, read_json
from snn_dt.config import save_config
from snn_dt.config_difference import check_same
from snn_dt.device import set_threads, tune_allocator
from snn_dt.errors import CheckpointError
from snn_dt.experimental.iterations import run_iterations
from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.config import OnlineConfig
from snn_dt.experimental.online.guide import make_guide
from snn_dt.experimental.online.hover_trainer import HoverTrainer, make_actor
from snn_dt.experimental.online.saved import ACTOR, BEST_ACTOR, load_actor, save_actor
from snn_dt.experimental.online.task import make_task
from snn_dt.io import require_file, write_atomically
from snn_dt.training.console import Console
from snn_dt.training.state import restoring
from snn_dt.training.tracking import Tracker

STATE = "state.pt"


class OnlineRun:
    """A training run in its folder.

    ```
    config.yaml            resolved
    guide.safetensors      the MLP that guides, if there is one
    metrics.jsonl          a line per iteration (`step`), its score in `score` where it was evaluated
    state.pt               everything needed to resume
    actor/, best_actor/    read by `snn_dt.experimental.online.saved.load_actor`
    ```

    Args:
        config: the whole configuration.
        run_dir: a new folder. With `resume` it is that of an earlier run.
        resume: restore `state.pt` if it exists.

    Raises:
        SnnDtError: guide, state or folder cannot be used.
    """

    def __init__(self, config: OnlineConfig, run_dir: Path, resume: bool = False) -> None:
        self.config, self.run_dir, self.resume = config, run_dir, resume
        tune_allocator()
        set_threads(config.train.threads)
        torch.manual_seed(config.train.seed)
        self.task = make_task(config.task)
        self.actor = make_actor(config.actor, self.task.learner_dim, self.task.action_dim)
        if config.learn.start is not None:
            self._start_from(load_actor(config.learn.start))
        self.console = Console()
        guide = None
        if config.has_guide:
            guide = make_guide(
                *(config, self.task, run_dir / "guide.safetensors", self.console.print, resume),
                begin=lambda: None if resume else save_config(config, run_dir / "config.yaml"),
            )
        torch.manual_seed(config.train.seed)  # the critics are the same with a trained and a loaded guide
        self.trainer = HoverTrainer(config, self.actor, guide, self.task)
        self.score: dict[str, float] | None = None
        if resume and (run_dir / STATE).exists():
            self._restore()

    def train(self) -> tuple[dict[str, float] | None, int | None]:
        """Train to the last iteration or to the one in which a signal arrives. Returns last score and signal."""
        train, trainer = self.config.train, self.trainer
        done = trainer.iteration if self.resume else None
        if done is not None and done >= train.iterations:
            self._save_actor(ACTOR)  # version 0.1.0 wrote it after the state, so a kill could leave an older one
        signum = run_iterations(
            *(self.config, self.run_dir, self.console, train.iterations, done, train.save_every),
            iterate=self._iterate,
            save=self._save,
        )
        return self.score, signum

    def _iterate(self, tracker: Tracker) -> int:
        trainer = self.trainer
        metrics, score = trainer.iterate()
        if score is not None:
            self.score = score
            self.console.print(
                f"score at iteration {trainer.iteration}: return {score['return']:.1f}, in the air for "
                f"{score['length']:.0f} steps, {score['lasted']:.0%} to the end"
            )
            if score["return"] > trainer.best:
                trainer.best = score["return"]
                self._save_actor(BEST_ACTOR)
        tracker.log(trainer.iteration, metrics if score is None else {**metrics, "score": score})
        self.console.log(trainer.iteration, metrics)
        return trainer.iteration

    def _save(self) -> None:
        """Write the actor before the state: after a kill in between, a resumed run repeats the iterations."""
        self._save_actor(ACTOR)
        content = io.BytesIO()
        torch.save(self.trainer.state_dict(), content)
        try:
            write_atomically(self.run_dir / STATE, content.getvalue())
        except OSError as error:
            raise CheckpointError(
                f"expected to write {self.run_dir / STATE}, found: {error.strerror}; free space or choose another "
                "--run-dir"
            ) from error

    def _start_from(self, earlier: SpikingActor) -> None:
        own, theirs = ({k: tuple(v.shape) for k, v in actor.state_dict().items()} for actor in (self.actor, earlier))
        if own != theirs:
            raise CheckpointError(
                f"learn.start: expected an actor of actor.hidden {self.config.actor.hidden} for this task, found "
                f"{tuple(layer.in_features for layer in earlier.linears)} inputs of its layers; change actor.hidden"
            )
        self.actor.load_state_dict(earlier.state_dict())

    def _save_actor(self, name: str) -> None:
        facts: dict[str, Any] = provenance(iteration=self.trainer.iteration, config=strict.to_dict(self.config))
        save_actor(self.run_dir / name, self.actor, self.config, facts)

    def _restore(self) -> None:
        path = self.run_dir / STATE
        if (actor := self.run_dir / ACTOR / "config.json").exists():
            check_same(self.config, read_json(actor).get("provenance", {}).get("config"), self.run_dir)
        with restoring(path):
            self.trainer.load_state_dict(torch.load(require_file(path), weights_only=True))
