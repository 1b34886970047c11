"""Proximal policy optimization of the spiking actor, trained through time (Schulman et al. 2017).

Shapes: T steps of an iteration; N environments; S segments of at most L = `learn.length` steps; P observation columns;
A action columns.

```
policy     a ~ N(pi(s_t, h_t), sigma^2), clipped to [-1, 1] by the environment; sigma [A] is learned, h_t the membranes
advantage  A_t = sum_k (gamma lambda)^k delta_(t+k),   delta_t = r_t + gamma V(s_(t+1)) - V(s_t)
actor      -mean min(rho A, clip(rho, 1 - 0.2, 1 + 0.2) A),   rho = exp(log p(a) - log p_old(a))
critic     mean (V(s_t) - A_t - V_old(s_t))^2
```

Flights are cut into segments. A segment begins with the membranes that it had when it was flown, so the actor needs no
warm-up. The critic V is a dense network on all observation columns. A time-out bootstraps; a crash does not.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from snn_dt.experimental.online.actor_critic import SpikingActor, State, mlp, reset_rows
from snn_dt.experimental.online.config import OnlineConfig
from snn_dt.experimental.online.method import Moment
from snn_dt.experimental.online.task import Task
from snn_dt.learning.slopes import set_slope
from snn_dt.snn.parameters import LIFState

Floats = NDArray[np.float32]
CLIP, LAMBDA, GRAD_CLIP = 0.2, 0.95, 0.5


class Rollout(NamedTuple):
    """An iteration's steps, [T, N, ...]. `values_after` [T, N] is V of the state that follows, 0 after a crash."""

    observations: Tensor
    actions: Tensor
    log_p: Tensor
    rewards: Floats
    values: Floats
    values_after: Floats
    over: NDArray[np.bool_]
    membranes: list[Tensor]
    """Per layer [T, N, hidden]: before each step."""


def advantages(rollout: Rollout, gamma: float) -> Floats:
    """Return A [T, N]; no sum reaches across the end of a flight."""
    delta = rollout.rewards + gamma * rollout.values_after - rollout.values
    out, carried = np.empty_like(delta), np.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        carried = delta[t] + gamma * LAMBDA * carried * ~rollout.over[t]
        out[t] = carried
    return out


def segments(over: NDArray[np.bool_], length: int) -> list[tuple[int, int, int]]:
    """Return (row, first step, end) of the segments: each flight is cut every `length` steps.

    >>> segments(np.array([[False], [True], [False], [False], [False]]), 2)
    [(0, 0, 2), (0, 2, 4), (0, 4, 5)]
    """
    steps, found = len(over), []
    for row in range(over.shape[1]):
        begin = 0
        for end in [*(np.flatnonzero(over[:, row]) + 1).tolist(), steps]:
            found += [(row, first, min(first + length, end)) for first in range(begin, end, length)]
            begin = end
    return found


class RecurrentPPO:
    """See `snn_dt.experimental.online.method.Method`."""

    def __init__(self, config: OnlineConfig, task: Task, actor: SpikingActor) -> None:
        self.config, self.task, self.actor = config, task, actor
        k = config.learn
        self.value = mlp([task.observation_dim, *k.critic_hidden, 1], nn.Tanh)
        self.log_std = nn.Parameter(torch.full((task.action_dim,), math.log(k.exploration)))
        self.parameters = [*actor.parameters(), self.log_std]
        self.actor_optimizer = torch.optim.Adam(self.parameters, lr=k.actor_rate, fused=True)
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=k.critic_rate, fused=True)
        self.environment: Any = task.make(config.task.drones)
        self.env_steps, self.updates = 0, 0

    def set_slope(self, slope: float) -> None:
        """Set the slope of the surrogate gradient."""
        set_slope(self.actor, slope)

    def scored(self, score: float | None) -> None:
        """Nothing depends on evaluations."""

    def iterate(self, moment: Moment) -> dict[str, float]:
        """Fly all environments for one horizon, then learn for `learn.epochs` passes."""
        for optimizer, rate in (
            (self.actor_optimizer, self.config.learn.actor_rate),
            (self.value_optimizer, self.config.learn.critic_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1.0 + (self.config.learn.last_rate - 1.0) * moment.share)
        rollout = self._fly(moment)
        metrics = self._learn(rollout, moment)
        over = max(int(rollout.over.sum()), 1)
        return {
            **{"flight_return": float(rollout.rewards.sum()) / over, "flight_length": rollout.over.size / over},
            **{**metrics, "action_std": float(self.log_std.detach().exp().mean()), "updates": float(self.updates)},
            **moment.firing(self.actor, rollout.observations[: self.config.learn.length]),
        }

    @torch.no_grad()
    def _fly(self, moment: Moment) -> Rollout:
        steps, n = self.task.horizon, self.environment.num_envs
        seen, _ = self.environment.reset(seed=[int(s) for s in moment.rng.integers(2**31, size=n)])
        state: State = tuple(LIFState(torch.zeros(n, size)) for size in self.config.actor.hidden)
        rows: list[tuple[Any, ...]] = []
        std = self.log_std.exp()
        for t in range(steps):
            membranes = [part.v_mem for part in state]
            observations = torch.from_numpy(seen)
            mean, state = self.actor(observations[None], state)  # [1, N, A]
            actions = mean[0] + std * torch.randn(mean[0].shape, generator=moment.generator)
            log_p = log_probability(actions, mean[0], self.log_std)
            following, gained, terminated, truncated, _ = self.environment.step(actions.clamp(-1.0, 1.0).numpy())
            over = terminated | truncated
            values = self.value(torch.from_numpy(np.stack([seen, following]))).squeeze(-1).numpy()  # [2, N]
            end = over | (t == steps - 1)  # the iteration cuts the running flights
            rows.append((observations, actions, log_p, gained, values[0], values[1] * ~terminated, end, membranes))
            seen = following
            if over.any():
                seen, _ = self.environment.reset(options={"reset_mask": over})
                state = reset_rows(state, torch.from_numpy(over)) or ()
        self.env_steps += steps * n
        columns: list[Any] = list(zip(*rows, strict=True))
        rewards, before, after = (np.stack(part).astype(np.float32) for part in columns[3:6])
        return Rollout(
            *(torch.stack(columns[0]), torch.stack(columns[1]), torch.stack(columns[2]), rewards, before, after),
            over=np.stack(columns[6]),
            membranes=[torch.stack(layer) for layer in zip(*columns[7], strict=True)],  # [T, N, hidden] each
        )

    def _learn(self, rollout: Rollout, moment: Moment) -> dict[str, float]:
        k = self.config.learn
        a = advantages(rollout, k.gamma)
        goals, scaled = torch.from_numpy(a + rollout.values), torch.from_numpy((a - a.mean()) / (a.std() + 1e-8))
        found = np.array(segments(rollout.over, k.length))  # [S, 3]
        sums: list[tuple[float, ...]] = []
        for _ in range(k.epochs):
            order = moment.rng.permutation(len(found))
            for first in range(0, len(order), k.batch_size):
                sums.append(self._update(rollout, scaled, goals, found[order[first : first + k.batch_size]]))
            if np.mean([divergence for _, _, divergence in sums[-4:]]) > k.divergence:
                break  # the policy has moved far from the one that flew
        names = ("loss", "critic_loss", "divergence")
        return dict(zip(names, np.mean(sums, axis=0).tolist(), strict=True))

    def _update(self, rollout: Rollout, scaled: Tensor, goals: Tensor, batch: NDArray[np.int64]) -> tuple[float, ...]:
        """Make one step of both networks on segments [S, 3]. Return both losses and the divergence."""
        rows, first, end = (torch.from_numpy(column) for column in batch.T)
        steps = first + torch.arange(int((end - first).max()))[:, None]  # [L, S]
        valid, at = steps < end, (steps.clamp(max=len(goals) - 1), rows.expand(len(steps), -1))
        state = tuple(LIFState(layer[first, rows]) for layer in rollout.membranes)
        mean, _ = self.actor(rollout.observations[at], state)  # [L, S, A]
        ratio = log_probability(rollout.actions[at], mean, self.log_std) - rollout.log_p[at]
        ratio, gain = ratio[valid], scaled[at][valid]
        rho = ratio.exp()
        loss = -torch.minimum(rho * gain, rho.clamp(1.0 - CLIP, 1.0 + CLIP) * gain).mean()
        if self.updates >= self.config.learn.critic_first:
            self.actor_optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(self.parameters, GRAD_CLIP)
            self.actor_optimizer.step()
        judged = self.value(rollout.observations[at][valid]).squeeze(-1)
        critic_loss = (judged - goals[at][valid]).square().mean()
        self.value_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(critic_loss)
        nn.utils.clip_grad_norm_(self.value.parameters(), GRAD_CLIP)
        self.value_optimizer.step()
        self.updates += 1
        divergence = (rho - 1.0 - ratio).mean()  # an estimate of KL(old, new) (Schulman 2020)
        return loss.item(), critic_loss.item(), divergence.item()

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next iteration depends on."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        return {"learner": {**parts, "log_std": self.log_std.detach().clone(), "updates": self.updates}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state["learner"][name])
        with torch.no_grad():
            self.log_std.copy_(state["learner"]["log_std"])
        self.updates = state["learner"]["updates"]


_PARTS = ("actor", "value", "actor_optimizer", "value_optimizer")


def log_probability(actions: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log density [...] of actions [..., A] under independent Gaussians."""
    z = (actions - mean) / log_std.exp()
    return (-0.5 * z.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)
