"""Jump-start flights, which the guide begins and the learner ends, and the curriculum of the learner's share.

Shapes: N drones in parallel; P privileged observation columns; A action columns.

While the guide flies, the learner gets the same observations and its actions are discarded. So its membranes have
settled when it takes over. Source: jump-start reinforcement learning (Uchendu et al. 2023) as used in arXiv 2510.24461.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from snn_dt.experimental.online.actor_critic import Actor, State, reset_rows
from snn_dt.experimental.online.buffer import Flight
from snn_dt.experimental.online.config import JumpStartConfig
from snn_dt.experimental.online.crazyflie import CrazyflieHoverVectorEnv

Guide = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Curriculum:
    """The number h of first steps of a flight that the guide flies. It depends on the stage n = 0, 1, ...

    ```
    h = max(n_w, horizon - N)       N = first + growth n,   n_w warm-up steps
    ```

    `linear`: every iteration is a stage. `score`: the next stage begins when an evaluation is within `tolerance` of the
    best one so far. `random`: as linear, but each flight draws its h from n_w, ..., h.
    """

    def __init__(self, config: JumpStartConfig, warm_up: int, horizon: int) -> None:
        self.config, self.warm_up, self.horizon = config, warm_up, horizon
        self.stage, self.best = 0, -np.inf

    @property
    def guided(self) -> int:
        """h of this stage."""
        if not self.config.enabled:
            return 0
        share = self.config.first + self.config.growth * self.stage  # N of this stage
        return max(self.warm_up, self.horizon - share)

    def draw(self, rng: np.random.Generator) -> int:
        """Return h of one flight."""
        if self.config.curriculum == "random":
            return int(rng.integers(min(self.warm_up, self.guided), self.guided + 1))
        return self.guided

    def advance(self, score: float | None) -> None:
        """End an iteration. `score` is the return of its evaluation or None."""
        good = score is not None and score >= self.best - self.config.tolerance
        if good or self.config.curriculum != "score":
            self.stage += 1
        if score is not None:
            self.best = max(self.best, score)

    def state_dict(self) -> dict[str, Any]:
        """Return the stage and the best score."""
        return {"stage": self.stage, "best": float(self.best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.stage, self.best = state["stage"], state["best"]


@torch.no_grad()
def fly(
    drones: CrazyflieHoverVectorEnv,
    steps: int,
    learner: Actor,
    guide: Guide | None,
    draw_guided: Callable[[np.random.Generator], int],
    noise: float,
    guide_noise: float,
    rng: np.random.Generator,
) -> list[Flight]:
    """Fly all drones for `steps` steps; a drone whose flight ends begins another one.

    Args:
        drones: N drones with `autoreset=False`; all are reset, with seeds from `rng`.
        steps: for every drone.
        learner: takes observations [1, N, P] and its state.
        guide: flies the first steps of each flight; None if the learner flies them all.
        draw_guided: draws the number of these steps for a new flight; from `steps` on the guide flies alone.
        noise, guide_noise: standard deviation of the exploration noise on the actions of learner and guide.
        rng: draws initial states, noise and `draw_guided`.

    Returns:
        The finished flights in the order of their ends, then the unfinished ones.
    """
    n = drones.num_envs
    observations, _ = drones.reset(seed=[int(s) for s in rng.integers(2**31, size=n)])
    # [N] steps of the guide in the running flights
    guided = np.array([draw_guided(rng) for _ in range(n)]) if guide else np.zeros(n, np.int64)
    running = [_Recorder(observations[i]) for i in range(n)]
    age, flights = np.zeros(n, np.int64), list[Flight]()
    state: State | None = None
    for _ in range(steps):
        # the learner sees every step, also those of the guide: its membranes settle
        proposed, state = learner(torch.from_numpy(observations)[None], state)  # [1, N, A]
        actions, sigma = proposed[0].numpy().copy(), np.full(n, noise, np.float64)
        by_guide = age < guided  # [N]
        if guide is not None and by_guide.any():
            actions[by_guide], sigma[by_guide] = guide(observations[by_guide]), guide_noise
        # [N, A]; the deviation depends on who flies
        actions = actions + sigma[:, None] * rng.standard_normal(actions.shape)
        actions = np.clip(actions, -1.0, 1.0).astype(np.float32)
        observations, rewards, terminated, truncated, _ = drones.step(actions)
        age += 1
        over = terminated | truncated
        # the last observation of a flight belongs to it; the reset replaces it below
        for i in range(n):
            running[i].add(observations[i], actions[i], rewards[i])
            if over[i]:
                flights.append(running[i].flight(bool(terminated[i]), int(min(guided[i], age[i]))))
        if over.any():
            observations, _ = drones.reset(options={"reset_mask": over})
            state = reset_rows(state, torch.from_numpy(over))
            for i in np.flatnonzero(over).tolist():
                running[i], age[i] = _Recorder(observations[i]), 0
                guided[i] = draw_guided(rng) if guide else 0
    # flights that go on at the end of the last step
    cut = [running[i].flight(False, int(min(guided[i], age[i]))) for i in range(n) if age[i]]
    return flights + cut


class _Recorder:
    """The running flight of one drone."""

    def __init__(self, observation: NDArray[np.float32]) -> None:
        self.observations = [observation.copy()]
        self.actions: list[NDArray[np.float32]] = []
        self.rewards: list[float] = []

    def add(self, observation: NDArray[np.float32], action: NDArray[np.float32], reward: float) -> None:
        self.observations.append(observation.copy())
        self.actions.append(action)
        self.rewards.append(reward)

    def flight(self, terminated: bool, guided: int) -> Flight:
        rewards = np.array(self.rewards, np.float32)
        # [L + 1, P] and [L, A]
        return Flight(np.stack(self.observations), np.stack(self.actions), rewards, terminated, guided)
