"""The online training loop: fly, update and evaluate.

It can be saved and resumed between two iterations. The generators of iteration i are seeded with (seed, i), so no
generator state has to be saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from snn_dt.experimental.online.actor_critic import SpikingActor, TwinCritic
from snn_dt.experimental.online.buffer import SequenceBuffer
from snn_dt.experimental.online.config import ActorConfig, OnlineConfig
from snn_dt.experimental.online.crazyflie import ACTION_DIM, PLAIN_DIM, CrazyflieHoverVectorEnv
from snn_dt.experimental.online.guide import PRIVILEGED_DIM
from snn_dt.experimental.online.jump_start import Curriculum, Guide, fly
from snn_dt.experimental.online.score import score_flights
from snn_dt.experimental.online.td3 import Learner
from snn_dt.learning.slopes import Adaptive, Fixed, Interval, SlopeSchedule, set_slope
from snn_dt.snn.probe import Probe

SLOPE_STAGES = 10


def make_actor(config: ActorConfig) -> SpikingActor:
    """Return the spiking actor of the hover task. Its weights come from torch's global generator."""
    return SpikingActor(PLAIN_DIM, ACTION_DIM, config.hidden, config.surrogate_slope)


def slope_schedule(config: OnlineConfig) -> SlopeSchedule:
    """Return the schedule of the surrogate's slope over iterations; `adaptive` uses returns in environment units."""
    a = config.actor
    if a.slope_schedule == "fixed":
        return Fixed(a.surrogate_slope)
    if a.slope_schedule == "adaptive":
        return Adaptive(a.surrogate_slope, high=a.last_slope)
    # stages of equal length; the first has the initial slope
    every = max(1, config.train.iterations // (SLOPE_STAGES + 1))
    return Interval(a.surrogate_slope, a.last_slope, every, SLOPE_STAGES, a.slope_schedule)


class HoverTrainer:
    """Trains an actor to hover; `iterate` runs one iteration.

    Args:
        config: the whole run.
        actor: the spiking learner, trained in place.
        guide: flies the first steps of each flight, or None.
    """

    def __init__(self, config: OnlineConfig, actor: SpikingActor, guide: Guide | None) -> None:
        self.config, self.guide = config, guide
        critic = TwinCritic(PRIVILEGED_DIM, ACTION_DIM, config.learn.critic_hidden)
        self.learner = Learner(actor, critic, config.learn)
        k, task = config.learn, config.task
        self.buffer = SequenceBuffer(k.capacity, k.length, k.stride, PRIVILEGED_DIM, ACTION_DIM)
        self.drones = CrazyflieHoverVectorEnv(
            task.drones, task.horizon, "privileged", spread=task.spread, autoreset=False
        )
        self.curriculum = Curriculum(config.jump_start, k.warm_up, task.horizon)
        self.slopes = slope_schedule(config)
        self.iteration, self.env_steps, self.best = 0, 0, -math.inf

    def iterate(self) -> tuple[dict[str, float], dict[str, float] | None]:
        """Run one iteration. Return its metrics and the result of its evaluation (or None)."""
        rng = np.random.default_rng([self.config.train.seed, 2, self.iteration])  # stream 1 trains the guide
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        slope = self.slopes.slope(self.iteration)
        set_slope(self.learner.actor, slope)
        set_slope(self.learner.target_actor, slope)  # the target has the same surrogate, though it needs no gradient
        metrics = self._fly(rng) | {"surrogate_slope": slope, "guided": float(self.curriculum.guided)}
        metrics |= self._learn(rng, generator)
        self.iteration += 1
        score = None
        train = self.config.train
        if self.iteration % train.eval_every == 0 or self.iteration == train.iterations:
            score = self.score()
            self.slopes.observe(score["return"])  # `adaptive` only
        self.curriculum.advance(None if score is None else score["return"])
        return metrics | {"env_steps": float(self.env_steps), "updates": float(self.learner.updates)}, score

    def score(self) -> dict[str, float]:
        """Evaluate the actor with the settings of `eval`."""
        e = self.config.eval
        return score_flights(self.learner.actor, self.config, e.flights, e.seed, self.guide, e.guided)

    def bc_weight(self) -> float:
        """Return the weight of behaviour cloning in this iteration."""
        return self.config.learn.bc_weight * self.config.learn.bc_decay**self.iteration

    def reward_stage(self) -> float:
        """Return the position in the reward curriculum from 0 (first) to 1 (last). Offline data use the last."""
        stages, train = self.config.task.reward_stages, self.config.train
        if stages == 0 or train.offline:
            return 1.0
        return min(self.iteration * (stages + 1) // train.iterations, stages) / stages

    def _fly(self, rng: np.random.Generator) -> dict[str, float]:
        """Fly the drones of this iteration and fill the buffer. Return the mean return and length."""
        train, j, horizon = self.config.train, self.config.jump_start, self.config.task.horizon
        self.drones.curriculum = self.reward_stage()
        draw_guided: Callable[[np.random.Generator], int] = self.curriculum.draw
        rounds = 1
        if train.offline:  # the guide flies every step, in the first iteration only
            draw_guided, rounds = (lambda _: horizon), train.offline_flights if self.iteration == 0 else 0
        returns, lengths = [], []
        for _ in range(rounds):
            actor, noise = self.learner.actor, (j.noise, j.guide_noise)
            for flight in fly(self.drones, horizon, actor, self.guide, draw_guided, *noise, rng):
                self.buffer.add(flight)
                self.env_steps += len(flight.rewards)
                returns.append(float(flight.rewards.sum()))
                lengths.append(len(flight.rewards))
        if not returns:
            return {}
        return {"flight_return": float(np.mean(returns)), "flight_length": float(np.mean(lengths))}

    def _learn(self, rng: np.random.Generator, generator: torch.Generator) -> dict[str, float]:
        """Make the updates of this iteration; return the means of their metrics."""
        sums: dict[str, list[float]] = {}
        weight = self.bc_weight()
        for _ in range(self.config.train.updates):
            batch = self.buffer.sample(self.config.learn.batch_size, rng)
            for name, value in self.learner.update(batch, weight, generator).items():
                sums.setdefault(name, []).append(value)
        with torch.no_grad(), Probe(self.learner.actor) as probe:  # firing rates on the last batch
            self.learner.actor(batch.observations)
            rates = probe.firing_rates({}).values()
        means = {name: float(np.mean(values)) for name, values in sums.items()}
        # the actor may have had no update in this iteration
        return {"loss": math.nan, **means, "bc_weight": weight, "firing_rate": float(np.mean(list(rates)))}

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next iteration depends on."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        return parts | {"iteration": self.iteration, "env_steps": self.env_steps, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.iteration, self.env_steps, self.best = state["iteration"], state["env_steps"], state["best"]


_PARTS = ("learner", "buffer", "curriculum", "slopes")
