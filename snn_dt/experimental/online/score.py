"""Evaluation flights from fixed initial states; the drone flies with the last reward of the curriculum."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_dt.experimental.online.actor_critic import Actor, State
from snn_dt.experimental.online.jump_start import Guide
from snn_dt.experimental.online.task import Task


def as_actor(guide: Guide) -> Actor:
    """Return a guide with the call signature of a policy without memory."""

    def act(observations: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        return torch.from_numpy(guide(observations[0].numpy()))[None], ()  # [1, N, P] -> [N, A] -> [1, N, A]

    return act


@torch.no_grad()
def fly_alone(
    actor: Actor, environment: Any, horizon: int, seed: int, guide: Guide | None = None, guided: int = 0
) -> dict[str, Any]:
    """Fly `actor` without noise, one episode in each of N environments. A guide flies the first `guided` steps.

    Returns arrays [N]: `returns`, `lengths` in steps, `lasted` (the episode reached the horizon), and `last`, the last
    observations [N, P].
    """
    n = environment.num_envs
    observations, _ = environment.reset(seed=seed)
    returns, lengths, flying = np.zeros(n), np.zeros(n, np.int64), np.ones(n, np.bool_)
    last, lasted = observations.copy(), np.zeros(n, np.bool_)
    state: State | None = None
    for step in range(horizon):
        proposed, state = actor(torch.from_numpy(observations)[None], state)  # [1, N, A]
        actions = guide(observations) if guide is not None and step < guided else proposed[0].numpy()
        observations, rewards, terminated, truncated, _ = environment.step(actions)
        returns += rewards * flying  # a row whose episode is over stays in the array and is masked
        lengths += flying
        ends = flying & (terminated | truncated)
        last[ends] = observations[ends]
        lasted |= flying & truncated & ~terminated  # the horizon truncates
        flying &= ~ends
        if not flying.any():
            break
        if (over := terminated | truncated).any():
            observations, _ = environment.reset(options={"reset_mask": over})
    return {"returns": returns, "lengths": lengths, "lasted": lasted, "last": last}


def score_flights(
    actor: Actor,
    task: Task,
    flights: int,
    seed: int,
    guide: Guide | None = None,
    guided: int = 0,
    perturbed: bool = False,
) -> dict[str, float]:
    """Return the means over evaluation flights, of drones as modelled or `perturbed` as in training.

    `return` and `return_std`; `length` in steps; `lasted`, the share of flights that reached the horizon; for the drone
    also `distance` in metres from the target at the last step.
    """
    environment = task.make(flights, training=False, perturbed=perturbed)
    flown = fly_alone(actor, environment, task.horizon, seed, guide, guided)
    environment.close()
    score = {
        "return": float(flown["returns"].mean()),
        "return_std": float(flown["returns"].std()),
        "length": float(flown["lengths"].mean()),
        "lasted": float(flown["lasted"].mean()),
    }
    if task.is_hover:
        score["distance"] = float(np.linalg.norm(flown["last"][:, :3], axis=-1).mean())
    return score
