"""Evaluation flights from fixed initial states with the last reward of the curriculum."""

from __future__ import annotations

import numpy as np
import torch

from snn_dt.experimental.online.actor_critic import Actor, State
from snn_dt.experimental.online.config import OnlineConfig
from snn_dt.experimental.online.crazyflie import CrazyflieHoverVectorEnv
from snn_dt.experimental.online.jump_start import Guide


@torch.no_grad()
def score_flights(
    actor: Actor,
    config: OnlineConfig,
    flights: int,
    seed: int,
    guide: Guide | None = None,
    guided: int = 0,
) -> dict[str, float]:
    """Fly `actor` without noise until every flight has ended. A guide flies the first `guided` steps.

    Returns the mean and standard deviation of the return (`return` and `return_std`). `length` is in steps. `lasted` is
    the share of flights that reached the horizon. `distance` is in metres from the target at the last step.
    """
    task = config.task
    # 1.0: the last reward of the curriculum
    drones = CrazyflieHoverVectorEnv(flights, task.horizon, "privileged", 1.0, task.spread, autoreset=False)
    observations, _ = drones.reset(seed=seed)
    returns, lengths, flying = np.zeros(flights), np.zeros(flights, np.int64), np.ones(flights, np.bool_)
    distance, lasted = np.zeros(flights), np.zeros(flights, np.bool_)
    state: State | None = None
    for step in range(task.horizon):
        proposed, state = actor(torch.from_numpy(observations)[None], state)  # [1, flights, 4]
        actions = guide(observations) if guide is not None and step < guided else proposed[0].numpy()
        observations, rewards, terminated, truncated, _ = drones.step(actions)
        returns += rewards * flying  # a drone whose flight is over stays in the array and is masked
        lengths += flying
        ends = flying & (terminated | truncated)
        distance[ends] = np.linalg.norm(observations[ends, :3], axis=-1)
        lasted |= flying & truncated & ~terminated  # the horizon truncates
        flying &= ~ends
        if not flying.any():
            break
    return {
        "return": float(returns.mean()),
        "return_std": float(returns.std()),
        "length": float(lengths.mean()),
        "lasted": float(lasted.mean()),
        "distance": float(distance.mean()),
    }
