"""Learning from recorded flights: TD3, TD3+BC, behaviour cloning, the jump start, and DAgger.

DAgger (Ross et al. 2011): the guide flies the first iteration and from then on the learner flies alone. The buffer
keeps the learner's observations with the actions that the guide would have taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from snn_dt.experimental.online.actor_critic import SpikingActor, TwinCritic
from snn_dt.experimental.online.buffer import Flight, SequenceBuffer
from snn_dt.experimental.online.config import OnlineConfig
from snn_dt.experimental.online.jump_start import Curriculum, Guide, fly
from snn_dt.experimental.online.method import Moment
from snn_dt.experimental.online.task import Task
from snn_dt.experimental.online.td3 import Learner
from snn_dt.learning.slopes import set_slope


class Replay:
    """Flies, keeps sequences and learns from them; see `snn_dt.experimental.online.method.Method`."""

    def __init__(self, config: OnlineConfig, task: Task, actor: SpikingActor, guide: Guide | None) -> None:
        self.config, self.task, self.guide = config, task, guide
        critic = TwinCritic(task.observation_dim, task.action_dim, config.learn.critic_hidden)
        self.learner = Learner(actor, critic, config.learn)
        k = config.learn
        kept = task.observation_dim if k.q_weight > 0 else task.learner_dim  # only critics need the other columns
        self.buffer = SequenceBuffer(k.capacity, k.length, k.stride, kept, task.action_dim)
        self.environment: Any = task.make(config.task.drones)
        self.curriculum = Curriculum(config.jump_start, k.warm_up, task.horizon)
        self.env_steps = 0

    @property
    def actor(self) -> SpikingActor:
        """The learner's network."""
        return self.learner.actor

    def set_slope(self, slope: float) -> None:
        """Set the surrogate's slope of the actor and of its target, though that needs no gradient."""
        set_slope(self.learner.actor, slope)
        set_slope(self.learner.target_actor, slope)

    def scored(self, score: float | None) -> None:
        """Move the curriculum on."""
        self.curriculum.advance(score)

    def iterate(self, moment: Moment) -> dict[str, float]:
        """Fly, then make the updates of this iteration."""
        self.learner.set_rate(1.0 + (self.config.learn.last_rate - 1.0) * moment.share)
        metrics = {"guided": float(self._guided(moment.iteration))}
        metrics |= self._fly(moment)
        return metrics | self._learn(moment) | {"updates": float(self.learner.updates)}

    def bc_weight(self, iteration: int) -> float:
        """Return the weight of behaviour cloning in an iteration."""
        return self.config.learn.bc_weight * self.config.learn.bc_decay**iteration

    def reward_stage(self, iteration: int) -> float:
        """Return the position in the reward curriculum from 0 (first) to 1 (last). Offline data use the last."""
        stages, train = self.config.task.reward_stages, self.config.train
        if stages == 0 or train.offline:
            return 1.0
        return min(iteration * (stages + 1) // train.iterations, stages) / stages

    def _guided(self, iteration: int) -> int:
        """Return the number of first steps of a flight that the guide flies."""
        if self.config.learn.method == "dagger":
            return self.task.horizon if iteration == 0 else 0
        return self.task.horizon if self.config.train.offline else self.curriculum.guided

    def _fly(self, moment: Moment) -> dict[str, float]:
        """Fly the environments of this iteration and fill the buffer. Return the mean return and length."""
        train, j, dagger = self.config.train, self.config.jump_start, self.config.learn.method == "dagger"
        if self.task.is_hover:
            self.environment.curriculum = self.reward_stage(moment.iteration)
        draw_guided: Callable[[np.random.Generator], int] = self.curriculum.draw
        rounds = 1
        if train.offline or dagger:
            steps = self._guided(moment.iteration)
            draw_guided = lambda _: steps  # noqa: E731
        if train.offline:  # the guide flies in the first iteration only
            rounds = train.offline_flights if moment.iteration == 0 else 0
        returns, lengths = [], []
        for _ in range(rounds):
            noise = (j.noise, j.guide_noise)
            for flight in fly(
                *(self.environment, self.task.horizon, self.actor, self.guide, draw_guided), *noise, moment.rng
            ):
                self.buffer.add(self._labelled(flight) if dagger else flight)
                self.env_steps += len(flight.rewards)
                returns.append(float(flight.rewards.sum()))
                lengths.append(len(flight.rewards))
        if not returns:
            return {}
        return {"flight_return": float(np.mean(returns)), "flight_length": float(np.mean(lengths))}

    def _labelled(self, flight: Flight) -> Flight:
        """Replace the actions of a flight by those of the guide."""
        assert self.guide is not None
        return flight._replace(actions=self.guide(flight.observations[:-1]))

    def _learn(self, moment: Moment) -> dict[str, float]:
        """Make the updates of this iteration; return the means of their metrics."""
        sums: dict[str, list[float]] = {}
        weight = self.bc_weight(moment.iteration)
        for _ in range(self.config.train.updates):
            batch = self.buffer.sample(self.config.learn.batch_size, moment.rng)
            for name, value in self.learner.update(batch, weight, moment.generator).items():
                sums.setdefault(name, []).append(value)
        means = {name: float(np.mean(values)) for name, values in sums.items()}
        # the actor may have had no update in this iteration
        return {"loss": float("nan"), **means, "bc_weight": weight, **moment.firing(self.actor, batch.observations)}

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next iteration depends on."""
        return {name: getattr(self, name).state_dict() for name in _PARTS}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])


_PARTS = ("learner", "buffer", "curriculum")
