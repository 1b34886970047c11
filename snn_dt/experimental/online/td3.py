"""TD3 on sequences with a behaviour-cloning term. Its weights select TD3, TD3+BC or behaviour cloning.

Shapes: T steps first, then B sequences (`snn_dt.experimental.online.buffer.Sequences`); A action columns. n_w is the
number of warm-up steps.

```
y_t = r_t + gamma (1 - terminated_t) min_j Q'_j(s_(t+1), clip(pi'(s_(t+1)) + eps))      eps = clip(N(0, sigma^2), +-c)
critic:  mean over valid t of (Q_1 - y)^2 + (Q_2 - y)^2, at the recorded actions
actor:   -q_weight alpha / mean|Q_1| mean Q_1(s_t, pi(s_t)) + bc_weight mean |pi(s_t) - a_t|^2,   valid t >= n_w only
         + saturation mean (max(|u_t|, 1) - 1)^2,   pi = tanh(u): our addition, against saturation of the tanh
```

The actor and its target run over the whole sequence from rest. The membranes settle in the first n_w steps. Source:
arXiv 2510.24461 (after Fujimoto et al. 2018 and Fujimoto and Gu 2021). Its public code evaluates the actor's Q at the
recorded actions, adds the smoothing noise to them in place and bootstraps from them. Here Q is evaluated at the actor's
actions and the noise does not change the recorded ones. A time-out is not terminal.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.experimental.online.actor_critic import SpikingActor, TwinCritic
from snn_dt.experimental.online.buffer import Sequences
from snn_dt.experimental.online.config import LearnConfig


def td_target(rewards: Tensor, terminated: Tensor, next_value: Tensor, gamma: float) -> Tensor:
    """Return `r + gamma (1 - terminated) Q'` for tensors of one shape."""
    return rewards + gamma * (1.0 - terminated) * next_value


def smoothed(actions: Tensor, sigma: float, clip: float, generator: torch.Generator) -> Tensor:
    """Return a copy of `actions` plus clipped Gaussian noise. The sum is clipped to [-1, 1]."""
    # on the generator's device, the CPU
    noise = sigma * torch.randn(actions.shape, generator=generator, dtype=actions.dtype)
    return (actions + noise.clamp(-clip, clip)).clamp(-1.0, 1.0)


def tanh_excess(actions: Tensor) -> Tensor:
    """Return `max(|u|, 1) - 1` for `actions = tanh(u)`. Unlike the tanh it keeps its gradient for large |u|."""
    return (torch.atanh(actions.clamp(-0.99999, 0.99999)).abs() - 1.0).clamp_min(0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of `values` where `mask` is True; 0 if it is True nowhere."""
    return (values * mask).sum() / mask.sum().clamp_min(1)


def counted_steps(batch: Sequences, config: LearnConfig) -> Tensor:
    """Return which steps [T, B] are in the actor's loss."""
    counted = batch.valid.clone()
    counted[: config.warm_up] &= batch.begins & config.count_take_off
    return counted


class Learner:
    """An actor and two critics with their targets and optimizers. `update` makes one step of all of them.

    Args:
        actor: the learner, trained in place.
        critic: twin critics on the privileged observation.
        config: weights, rates and schedules.
    """

    def __init__(self, actor: SpikingActor, critic: TwinCritic, config: LearnConfig) -> None:
        self.config, self.critic, self.target_critic = config, critic, copy.deepcopy(critic)
        self.actor, self.target_actor = actor, copy.deepcopy(actor)
        self.actor_optimizer = torch.optim.Adam(actor.parameters(), lr=config.actor_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(critic.parameters(), lr=config.critic_rate, fused=True)
        self.updates = 0

    def set_rate(self, factor: float) -> None:
        """Scale the actor's learning rate."""
        for group in self.actor_optimizer.param_groups:
            group["lr"] = self.config.actor_rate * factor

    def update(self, batch: Sequences, bc_weight: float, generator: torch.Generator) -> dict[str, float]:
        """Update the critics, and every `policy_delay` updates the actor and the targets.

        The actor only clones until the critics have made `critic_first` updates.
        """
        metrics: dict[str, float] = {}
        self.updates += 1
        if self.config.q_weight > 0:
            metrics |= self.update_critic(batch, generator)
        use_critic = self.config.q_weight > 0 and self.updates > self.config.critic_first
        if (use_critic or bc_weight > 0) and self.updates % self.config.policy_delay == 0:
            metrics |= self.update_actor(batch, bc_weight, use_critic)
        if self.updates % self.config.policy_delay == 0:
            self._update_targets()
        return metrics

    @torch.no_grad()
    def targets(self, batch: Sequences, generator: torch.Generator) -> Tensor:
        """Return y [T, B]."""
        c = self.config
        proposed, _ = self.target_actor(batch.observations)  # [T + 1, B, A]
        next_actions = smoothed(proposed[1:], c.policy_noise, c.noise_clip, generator)
        value = torch.minimum(*self.target_critic(batch.observations[1:], next_actions))  # [T, B]
        return td_target(batch.rewards, batch.terminated, value, c.gamma)

    def update_critic(self, batch: Sequences, generator: torch.Generator) -> dict[str, float]:
        """Regress both critics on the targets at every valid step, also during the warm-up."""
        y = self.targets(batch, generator)  # [T, B]
        first, second = self.critic(batch.observations[:-1], batch.actions)
        # pads are masked; the guide's steps count too
        loss = masked_mean((first - y).square() + (second - y).square(), batch.valid)
        self.critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.critic_optimizer.step()
        return {"critic_loss": loss.item(), "value": masked_mean(first.detach(), batch.valid).item()}

    def actor_loss(
        self, batch: Sequences, bc_weight: float, use_critic: bool = True
    ) -> tuple[Tensor, dict[str, float]]:
        """Return the loss over the valid steps after `warm_up` and its parts; only cloning without `use_critic`."""
        c, observations = self.config, batch.observations[:-1]
        counted = counted_steps(batch, c)
        actions = self.actor(observations)[0][counted]  # [n, A]
        error = (actions - batch.actions[counted]).square().sum(-1).mean()  # squared distance, mean over the n steps
        loss, metrics = bc_weight * error, {"bc_error": error.item()}
        if use_critic:
            q = self.critic.first(observations[counted], actions)  # [n]
            # division by mean |Q| makes the weight independent of the reward's scale (TD3+BC)
            loss = loss - c.q_weight * c.alpha / q.detach().abs().mean().clamp_min(1e-6) * q.mean()
            loss = loss + c.saturation * tanh_excess(actions).square().sum(-1).mean()
            metrics["q"] = q.mean().item()
        return loss, {"loss": loss.item(), **metrics}

    def update_actor(self, batch: Sequences, bc_weight: float, use_critic: bool = True) -> dict[str, float]:
        """Make one optimizer step of the actor; skip a batch in which no flight outlasts the warm-up."""
        if not counted_steps(batch, self.config).any():
            return {}
        self.critic.requires_grad_(False)  # the gradient goes through the critic, not into it
        loss, metrics = self.actor_loss(batch, bc_weight, use_critic)
        self.actor_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.critic.requires_grad_(True)
        nn.utils.clip_grad_norm_(self.actor.parameters(), self.config.grad_clip)
        self.actor_optimizer.step()
        return metrics

    @torch.no_grad()
    def _update_targets(self) -> None:
        """Polyak averaging: `target += tau (online - target)`."""
        for target, online in ((self.target_actor, self.actor), (self.target_critic, self.critic)):
            torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), self.config.tau)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of networks, targets and optimizers with the number of updates."""
        return {name: getattr(self, name).state_dict() for name in _PARTS} | {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        self.updates = state["updates"]


_PARTS = ("actor", "critic", "target_actor", "target_critic", "actor_optimizer", "critic_optimizer")
