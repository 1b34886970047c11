"""TD3 on sequences, with a term that keeps the actor near the recorded actions: TD3, TD3+BC and BC are its corners.

T steps, B sequences, time first (`snn_dt.experimental.online.buffer.Sequences`); n_w warm-up steps.

```
y_t = r_t + gamma (1 - terminated_t) min_j Q'_j(s_(t+1), clip(pi'(s_(t+1)) + eps))      eps = clip(N(0, sigma^2), +-c)
critic:  mean over valid t of (Q_1 - y)^2 + (Q_2 - y)^2, at the recorded actions
actor:   -q_weight alpha / mean|Q_1| mean Q_1(s_t, pi(s_t)) + bc_weight mean |pi(s_t) - a_t|^2,   valid t >= n_w alone
         + saturation mean (max(|u_t|, 1) - 1)^2,   pi = tanh(u): ours; without it early critics push tanh out of reach
```

The actor and its target run over the whole sequence from rest: the first n_w steps bring their membranes to where they
would be. Source: arXiv 2510.24461, after Fujimoto et al. 2018 and Fujimoto and Gu 2021. Its public code takes the
actor's Q at the recorded actions, adds the smoothing noise to them in place and bootstraps from them; here Q is taken
at the actor's own actions, the noise is a tensor of its own, and a time-out is no end.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.experimental.online.buffer import Sequences
from snn_dt.experimental.online.config import LearnConfig


def td_target(rewards: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """Return `r + gamma (1 - terminated) Q'`, any shape."""
    return rewards + gamma * (1.0 - terminated) * next_value


def smoothed(actions: Tensor, sigma: float, clip: float, generator: torch.Generator) -> Tensor:
    """Return `actions` plus clipped Gaussian noise, within [-1, 1]; what is handed in is not touched."""
    noise = sigma * torch.randn(actions.shape, generator=generator, dtype=actions.dtype)
    return (actions + noise.clamp(-clip, clip)).clamp(-1.0, 1.0)


def beyond_one(actions: Tensor) -> Tensor:
    """Return `max(|u|, 1) - 1` of the u with `actions = tanh(u)`; its gradient stays where that of tanh vanishes."""
    return (torch.atanh(actions.clamp(-0.99999, 0.99999)).abs() - 1.0).clamp_min(0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask` is True; 0 where it never is."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


class Learner:
    """An actor, two critics, their targets and optimizers; `update` is one step of all that the settings ask for."""

    def __init__(self, actor: nn.Module, critic: nn.Module, config: LearnConfig) -> None:
        self.config, self.actor, self.critic = config, actor, critic
        self.target_actor, self.target_critic = copy.deepcopy(actor), copy.deepcopy(critic)
        self.actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config.actor_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config.critic_rate, fused=True)
        self.updates = 0

    def update(self, batch: Sequences, bc_weight: float, generator: torch.Generator) -> dict[str, float]:
        """Update the critics; every `policy_delay` updates the targets and the actor, which copies alone at first."""
        metrics: dict[str, float] = {}
        self.updates += 1
        if self.config.q_weight > 0:
            metrics |= self.update_critic(batch, generator)
        judged = self.config.q_weight > 0 and self.updates > self.config.critic_first
        if (judged or bc_weight > 0) and self.updates % self.config.policy_delay == 0:
            metrics |= self.update_actor(batch, bc_weight, judged)
        if self.updates % self.config.policy_delay == 0:
            self._follow()
        return metrics

    @torch.no_grad()
    def targets(self, batch: Sequences, generator: torch.Generator) -> Tensor:
        """Return y [T, B]."""
        c = self.config
        proposed, _ = self.target_actor(batch.observations)
        following = smoothed(proposed[1:], c.policy_noise, c.noise_clip, generator)
        value = torch.minimum(*self.target_critic(batch.observations[1:], following))
        return td_target(batch.rewards, batch.terminated, value, c.gamma)

    def update_critic(self, batch: Sequences, generator: torch.Generator) -> dict[str, float]:
        """Move both critics towards the targets, at every valid step, warm-up included."""
        y = self.targets(batch, generator)
        first, second = self.critic(batch.observations[:-1], batch.actions)
        loss = masked_mean((first - y).square() + (second - y).square(), batch.valid)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return {"critic_loss": loss.item(), "value": masked_mean(first.detach(), batch.valid).item()}

    def actor_loss(self, batch: Sequences, bc_weight: float, judged: bool = True) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of the valid steps from `warm_up` on, and its parts; unless `judged`, cloning alone."""
        c, observations = self.config, batch.observations[:-1]
        counted = batch.valid.clone()
        counted[: c.warm_up] = False
        actions = self.actor(observations)[0][counted]  # [n, A]
        error = (actions - batch.actions[counted]).square().sum(-1).mean()
        loss, metrics = bc_weight * error, {"bc_error": error.item()}
        if judged:
            q = self.critic.first(observations[counted], actions)
            loss = loss - c.q_weight * c.alpha / q.detach().abs().mean().clamp_min(1e-6) * q.mean()
            loss = loss + c.saturation * beyond_one(actions).square().sum(-1).mean()
            metrics["q"] = q.mean().item()
        return loss, {"loss": loss.item(), **metrics}

    def update_actor(self, batch: Sequences, bc_weight: float, judged: bool = True) -> dict[str, float]:
        """Move the actor; does nothing with a batch in which no flight outlasts the warm-up."""
        if not batch.valid[self.config.warm_up :].any():
            return {}
        self.critic.requires_grad_(False)  # the gradient goes through the critic, not into it
        loss, metrics = self.actor_loss(batch, bc_weight, judged)
        self.actor_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic.requires_grad_(True)
        nn.utils.clip_grad_norm_(self.actor.parameters(), self.config.grad_clip)
        self.actor_optimizer.step()
        return metrics

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the targets follow: `target += tau (online - target)`."""
        for target, online in ((self.target_actor, self.actor), (self.target_critic, self.critic)):
            torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), self.config.tau)

    def state_dict(self) -> dict[str, Any]:
        """Return networks, targets, optimizers and the number of updates."""
        return {name: getattr(self, name).state_dict() for name in _PARTS} | {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.updates = state["updates"]


_PARTS = ("actor", "critic", "target_actor", "target_critic", "actor_optimizer", "critic_optimizer")
