"""The loop of `snn-dt online`: one iteration flies, updates and perhaps evaluates.

It can be saved and resumed between two iterations. The generators of iteration i are seeded with (seed, i), so no
generator state has to be saved.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.experimental.online.config import ActorConfig, OnlineConfig
from snn_dt.experimental.online.crazyflie import ACTION_DIM, PLAIN_DIM
from snn_dt.experimental.online.jump_start import Guide
from snn_dt.experimental.online.method import Method, Moment
from snn_dt.experimental.online.recurrent_ppo import RecurrentPPO
from snn_dt.experimental.online.replay import Replay
from snn_dt.experimental.online.score import score_flights
from snn_dt.experimental.online.task import Task, make_task
from snn_dt.learning.slopes import Adaptive, Interval, SlopeSchedule

SLOPE_STAGES = 10


def make_actor(config: ActorConfig, obs_dim: int = PLAIN_DIM, action_dim: int = ACTION_DIM) -> SpikingActor:
    """Return the spiking actor. Its weights come from torch's global generator."""
    return SpikingActor(obs_dim, action_dim, config.hidden, config.surrogate_slope)


def slope_schedule(config: OnlineConfig) -> SlopeSchedule:
    """Return the schedule of the surrogate's slope over iterations; `adaptive` uses returns in environment units."""
    a = config.actor
    if a.slope_schedule == "fixed":
        return SlopeSchedule(a.surrogate_slope)
    if a.slope_schedule == "adaptive":
        return Adaptive(a.surrogate_slope, high=a.last_slope)
    # stages of equal length; the first has the initial slope
    every = max(1, config.train.iterations // (SLOPE_STAGES + 1))
    return Interval(a.surrogate_slope, a.last_slope, every, SLOPE_STAGES, a.slope_schedule)


class HoverTrainer:
    """Trains an actor; `iterate` runs one iteration.

    Args:
        config: the whole run.
        actor: the spiking learner, trained in place.
        guide: flies the first steps of each flight or labels them; None without one.
        task: what is flown; by default made from `config.task`.
    """

    def __init__(
        self, config: OnlineConfig, actor: SpikingActor, guide: Guide | None, task: Task | None = None
    ) -> None:
        self.config, self.guide = config, guide
        self.task = task or make_task(config.task)
        self.method: Method = (
            RecurrentPPO(config, self.task, actor)
            if config.learn.method == "ppo"
            else Replay(config, self.task, actor, guide)
        )
        self.slopes = slope_schedule(config)
        self.iteration, self.best = 0, -math.inf

    def iterate(self) -> tuple[dict[str, float], dict[str, float] | None]:
        """Run one iteration. Return its metrics and the result of its evaluation (or None)."""
        train = self.config.train
        rng = np.random.default_rng([train.seed, 2, self.iteration])  # stream 1 trained guides in earlier versions
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        slope = self.slopes.slope(self.iteration)
        self.method.set_slope(slope)
        metrics = self.method.iterate(Moment(self.iteration, self.iteration / train.iterations, rng, generator))
        self.iteration += 1
        score = None
        if self.iteration % train.eval_every == 0 or self.iteration == train.iterations:
            score = self.score()
            self.slopes.observe(score["return"])  # `adaptive` only
        self.method.scored(None if score is None else score["return"])
        return metrics | {"surrogate_slope": slope, "env_steps": float(self.method.env_steps)}, score

    def score(self) -> dict[str, float]:
        """Evaluate the actor with the settings of `eval`."""
        e = self.config.eval
        return score_flights(self.method.actor, self.task, e.flights, e.seed, self.guide, e.guided)

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next iteration depends on."""
        counts = {"iteration": self.iteration, "env_steps": self.method.env_steps, "best": self.best}
        return self.method.state_dict() | {"slopes": self.slopes.state_dict()} | counts

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.method.load_state_dict(state)
        self.slopes.load_state_dict(state["slopes"])
        self.iteration, self.method.env_steps, self.best = state["iteration"], state["env_steps"], state["best"]
