"""One update of a return-conditioned model from its own episodes: an online Decision Transformer, a critic beside it.

B windows of K steps, A action columns, S states; `asked` is the target return over the policy's scale.

```
loss = |a_k - f(rtg, s, a)_k|^2 (or cross-entropy)                 recorded actions under the return that followed them
     - q_weight / mean|Q_1| mean Q_1(s_k, f(rtg + asked - R, s, a)_k)      its own actions under the return asked for
y    = r + gamma (1 - terminated) min_j Q'_j(s', clip(f'(rtg' + asked - R, ...) + eps))
```

R is the return of the window's episode, so `rtg + asked - R` is what a rollout that asks for `asked` would show at this
step.

Why these two terms: hindsight labels alone (online Decision Transformer, Zheng et al. 2022) make every new episode,
good or bad, a true example for its own return, so nothing has to be filtered and lower targets go on meaning what they
meant; but imitation does not get beyond the best of what it sees. A critic does (TD3+BC, Fujimoto and Gu 2021, with the
sequence model as its actor; the states of Gymnasium's tasks are Markov, so a dense critic of single steps is enough),
and as it judges only what is done at the target asked for, it does not pull up the answers to lower ones.
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
from snn_dt.experimental.finetune.replay import Transitions
from snn_dt.experimental.online.critics import TwinCritic
from snn_dt.experimental.online.td3 import masked_mean, smoothed, td_target
from snn_dt.learning.losses import action_half_range, loss_of
from snn_dt.models.embedding import widen_returns
from snn_dt.models.norms import set_transition
from snn_dt.training.optimizer import make_optimizer


def asking(windows: Batch, returns: Tensor, asked: float) -> Batch:
    """Return the windows as they would be in rollouts that ask for `asked`; `returns` [B] are of their episodes."""
    shift = (asked - returns)[:, None, None] * windows.attention_mask[..., None]
    return replace(windows, rtg=windows.rtg + shift)


class FineTuner:
    """A model, and where its actions are bounded numbers two critics, with what updates them.

    Raises:
        ConfigError: a critic is asked for where actions are choices or have no bounds.
    """

    def __init__(self, model: nn.Module, config: UpdateConfig) -> None:
        self.model, self.config = model, config
        set_transition(model, 0, 0)  # what was trained is past it, and acts by its batch norms alone
        settings = TrainConfig(learning_rate=config.learning_rate, weight_decay=config.weight_decay)
        self.optimizer = make_optimizer(settings, model)
        self.half_range = action_half_range(model)
        self.critic: TwinCritic | None = None
        if config.q_weight > 0:
            if self.half_range is None:
                raise ConfigError(
                    f"update.q_weight: expected 0 for actions that are choices or without bounds, found "
                    f"{config.q_weight}; set --update.q_weight 0, which is the online Decision Transformer"
                )
            head: Any = model.head
            self.middle = (head.high + head.low) / 2
            self.critic = TwinCritic(model.state_dim, model.action_dim, config.critic_hidden).to(self.middle.device)
            self.target_critic, self.target_model = copy.deepcopy(self.critic), copy.deepcopy(model).eval()
            self.critic_optimizer = torch.optim.Adam(self.critic.parameters(), lr=config.critic_rate, fused=True)

    def units(self, actions: Tensor) -> Tensor:
        """Return actions [..., A] in [-1, 1], as critics see them."""
        return (actions - self.middle) / self.half_range

    def widen_returns(self, low: float, high: float) -> None:
        """Let the model, and what follows it, hear of returns that it learns from now."""
        for model in (self.model, *([self.target_model] if self.critic is not None else [])):
            widen_returns(model, low, high)

    def update_critic(self, steps: Transitions, asked: float, generator: torch.Generator) -> dict[str, Tensor]:
        """Move both critics towards y; steps without a known successor do not count."""
        assert self.critic is not None
        c = self.config
        with torch.no_grad():
            window = asking(steps.next_window, steps.returns, asked)
            proposed = self.units(self.target_model(*window.fields, last_only=True)[:, -1])
            following = smoothed(proposed.cpu(), c.policy_noise, c.noise_clip, generator).to(proposed.device)
            value = torch.minimum(*self.target_critic(steps.next_states, following))
            y = td_target(steps.rewards, steps.terminated, value, c.gamma)
        parts = self._regress(steps, y, steps.known)
        with torch.no_grad():
            _follow(self.target_critic, self.critic, c.tau)
        return parts

    def begin_critic(self, steps: Transitions) -> dict[str, Tensor]:
        """Move both critics, and their targets with them, towards the discounted returns that followed.

        Bootstrapping alone takes thousands of updates to see as far as 1 / (1 - gamma) steps; until then a critic is
        short-sighted: on Pendulum it undid in four iterations what the model had learned.
        """
        parts = self._regress(steps, steps.discounted, steps.settled)
        with torch.no_grad():
            _follow(self.target_critic, self.critic, 1.0)
        return parts

    def _regress(self, steps: Transitions, y: Tensor, counted: Tensor) -> dict[str, Tensor]:
        first, second = self.critic(steps.states, self.units(steps.actions))
        loss = masked_mean((first - y).square() + (second - y).square(), counted)
        self.critic_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.critic_optimizer.step()
        return {"critic_loss": loss.detach(), "value": first.detach().mean()}

    def update_model(self, windows: Batch, returns: Tensor, asked: float) -> dict[str, Tensor]:
        """Move the model by the loss above."""
        self.model.train()
        if self.critic is None:
            predictions = self.model(*windows.fields)
        else:
            both = join([windows, asking(windows, returns, asked)])
            predictions, own = self.model(*both.fields).chunk(2)
        loss, metrics = loss_of(self.model, windows, predictions)
        if self.critic is not None:
            self.critic.requires_grad_(False)  # the gradient goes through the critic, not into it
            q = self.critic.first(windows.states, self.units(own))[windows.attention_mask]
            loss = loss - self.config.q_weight / q.detach().abs().mean().clamp_min(1e-6) * q.mean()
            metrics |= {"q": q.detach().mean()}
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        if self.critic is not None:
            self.critic.requires_grad_(True)
            with torch.no_grad():
                _follow(self.target_model, self.model, self.config.tau)
        return metrics | {"grad_norm": norm.detach()}

    def state_dict(self) -> dict[str, Any]:
        """Return networks, targets and optimizers."""
        return {name: getattr(self, name).state_dict() for name in self._parts()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for name in self._parts():
            getattr(self, name).load_state_dict(state[name])

    def _parts(self) -> tuple[str, ...]:
        critic = ("critic", "target_critic", "target_model", "critic_optimizer")
        return ("model", "optimizer", *(critic if self.critic is not None else ()))


def _follow(target: nn.Module, online: nn.Module, tau: float) -> None:
    """Let `target` follow: parameters by tau, statistics of norms at once."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
    for old, new in zip(target.buffers(), online.buffers(), strict=True):
        old.copy_(new)
