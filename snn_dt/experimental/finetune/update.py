"""One update of a return-conditioned model on its own episodes: online Decision Transformer with an optional critic.

Shapes: B windows of K steps; A action columns; S state columns. `target` is the target return over the policy's
`rtg_scale`.

```
loss = |a_k - f(rtg, s, a)_k|^2 (or cross-entropy)                 recorded actions, achieved return-to-go
     - q_weight / mean|Q_1| mean Q_1(s_k, f(rtg + target - R, s, a)_k)     the model's actions at the target return
y    = r + gamma (1 - terminated) min_j Q'_j(s', clip(f'(rtg' + target - R, ...) + eps))
```

R is the return of the window's episode, so `rtg + target - R` is the return-to-go that a rollout with this target
return would have at the same step.

The two terms complement each other. Hindsight labels (online Decision Transformer, Zheng et al. 2022) make every new
episode a correct example for its own return. So no filter is needed and lower targets keep their meaning. But imitation
cannot exceed the best episode it has seen. A critic can: the sequence model is the actor of TD3+BC (Fujimoto and Gu
2021). The states of Gymnasium's tasks are Markov, so a dense critic of single steps is enough. The critic rates only
the actions at the target return, so it does not push those at lower targets towards higher returns.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.config import TrainConfig
from snn_dt.data.windows import Batch, join
from snn_dt.errors import ConfigError
from snn_dt.experimental.finetune.config import UpdateConfig
from snn_dt.experimental.finetune.replay_buffer import Transitions
from snn_dt.experimental.finetune.return_range import widen_returns
from snn_dt.experimental.online.actor_critic import TwinCritic
from snn_dt.experimental.online.td3 import masked_mean, smoothed, td_target
from snn_dt.learning.losses import action_half_range, loss_of
from snn_dt.models.norms import set_transition
from snn_dt.training.state import make_optimizer


def with_target_return(windows: Batch, returns: Tensor, target: float, aim: float | None = None) -> Batch:
    """Return the windows with the return-to-go of rollouts with target return `target`.

    `returns` [B] are the returns of the windows' episodes. Both are over the policy's `rtg_scale`; pads stay unchanged.
    `aim` is the goal that such rollouts have (`PolicySpec.goals`); None is the target.
    """
    shift = (target - returns)[:, None, None] * windows.attention_mask[..., None]  # [B, K, 1]
    goal = None if windows.goal is None else torch.full_like(windows.goal, target if aim is None else aim)
    return replace(windows, rtg=windows.rtg + shift, goal=goal)


class FineTuner:
    """Updates a model. With `q_weight` above 0 it also updates twin critics and target networks.

    Raises:
        ConfigError: `q_weight` is above 0 and actions are discrete or have no bounds.
    """

    critic: TwinCritic | None
    critic_optimizer: torch.optim.Optimizer
    half_range: Tensor | None

    def __init__(self, model: Any, config: UpdateConfig) -> None:
        self.model, self.config = model, config
        self.aim: float | None = None
        """Goal of rollouts with the target, see `with_target_return`."""
        set_transition(model, 0, 0)  # PTBN: a trained model uses its batch norms only
        settings = TrainConfig(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
        self.optimizer = make_optimizer(settings, model)
        self.half_range = action_half_range(model)
        self.critic = None
        if config.q_weight > 0:
            if self.half_range is None:
                raise ConfigError(
                    "update.q_weight: expected 0 for actions that are discrete or without bounds, found "
                    f"{config.q_weight}; set --update.q_weight 0, which is the online Decision Transformer"
                )
            self.middle: Tensor = (model.head.high + model.head.low) / 2  # [A]
            self.critic = TwinCritic(model.state_dim, model.action_dim, config.critic_hidden).to(self.middle.device)
            self.target_critic, self.target_model = copy.deepcopy(self.critic), copy.deepcopy(model).eval()
            self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_rate, fused=True)

    def to_unit_range(self, actions: Tensor) -> Tensor:
        """Return actions [..., A] scaled to [-1, 1] for the critics."""
        assert self.half_range is not None
        scaled: Tensor = (actions - self.middle) / self.half_range
        return scaled

    def widen_returns(self, low: float, high: float) -> None:
        """Extend the range to which the model and its target clamp the return-to-go."""
        for model in (self.model, *([self.target_model] if self.critic is not None else [])):
            widen_returns(model, low, high)

    def update_critic(self, steps: Transitions, target: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Regress both critics on y; steps without a known successor are masked out."""
        assert self.critic is not None
        c = self.config
        with torch.no_grad():
            window = with_target_return(steps.next_window, steps.returns, target, self.aim)
            proposed = self.to_unit_range(self.target_model(*window.fields, last_only=True)[:, -1])  # [B, A]
            # the noise is drawn on the CPU, so that it is the same on every device
            next_actions = smoothed(proposed.cpu(), c.policy_noise, c.noise_clip, generator).to(proposed.device)
            value = torch.minimum(*self.target_critic(steps.next_states, next_actions))  # [B]
            y = td_target(steps.rewards, steps.terminated, value, c.gamma)
        parts = self._regress(steps, y, steps.known)
        with torch.no_grad():
            _update_target(self.target_critic, self.critic, c.tau)
        return parts

    def begin_critic(self, steps: Transitions) -> dict[str, Tensor]:
        """Regress both critics on the observed discounted returns; the targets become copies of them.

        Bootstrapping alone takes thousands of updates to look 1 / (1 - gamma) steps ahead, and until then the critic is
        short-sighted. On Pendulum such a critic destroyed a trained policy in four iterations.
        """
        assert self.critic is not None
        parts = self._regress(steps, steps.discounted, steps.settled)
        with torch.no_grad():
            _update_target(self.target_critic, self.critic, 1.0)
        return parts

    def _regress(self, steps: Transitions, y: Tensor, counted: Tensor) -> dict[str, Tensor]:
        assert self.critic is not None
        first, second = self.critic(steps.states, self.to_unit_range(steps.actions))  # [B] each
        loss = masked_mean((first - y).square() + (second - y).square(), counted)
        self.critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self.critic_optimizer.step()
        return {"critic_loss": loss.detach(), "value": first.detach().mean()}

    def update_model(self, windows: Batch, returns: Tensor, target: float) -> dict[str, Tensor]:
        """Make one optimizer step of the model on the loss of the module docstring."""
        self.model.train()
        if self.critic is None:
            predictions = self.model(*windows.fields)
        else:
            # one pass over 2 B windows: recorded and target return-to-go
            both = join([windows, with_target_return(windows, returns, target, self.aim)])
            predictions, own = self.model(*both.fields).chunk(2)  # [B, K, A] each
        loss, metrics = loss_of(self.model, windows, predictions)
        if self.critic is not None:
            self.critic.requires_grad_(False)  # the gradient goes through the critic, not into it
            q = self.critic.first(windows.states, self.to_unit_range(own))[windows.attention_mask]  # [real steps]
            loss = loss - self.config.q_weight / q.detach().abs().mean().clamp_min(1e-6) * q.mean()
            metrics |= {"q": q.detach().mean()}
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        if self.critic is not None:
            self.critic.requires_grad_(True)
            with torch.no_grad():
                _update_target(self.target_model, self.model, self.config.tau)
        return metrics | {"grad_norm": norm.detach()}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of networks, targets and optimizers."""
        return {name: getattr(self, name).state_dict() for name in self._parts()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in self._parts():
            getattr(self, name).load_state_dict(state[name])

    def _parts(self) -> tuple[str, ...]:
        critic = ("critic", "target_critic", "target_model", "critic_optimizer")
        return ("model", "optimizer", *(critic if self.critic is not None else ()))


def _update_target(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Polyak averaging of the parameters with rate `tau`; buffers (statistics of norms) are copied."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
    for old, new in zip(target.buffers(), online.buffers(), strict=True):
        old.copy_(new)
