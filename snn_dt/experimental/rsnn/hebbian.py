r"""Reward-modulated Hebbian learning: coincidences of spikes times the reward minus its running mean.

Shapes: T steps; B samples; O outputs. Spikes of the sources are [T, B, S] and those of the targets [T, B, N]. Rates are
[B, O].

```
x_t = trace x_(t-1) + pre_t,    e_ji = 1/T sum_t post_j,t x_i,t          eligibility
m   = r_y - max_(k != y) r_k                                             margin of the right answer
R   = low + (high - low) sigma(steepness m)                              or, with `sign`: high where m > 0, else low
dw_ji = eta [mean_b (R - Rbar) gate_j e_ji + homeostasis (rate_target - r_j)]
Rbar  = Rbar + baseline (mean_b R - Rbar)
```

r_j is the mean rate of neuron j. Without the homeostasis term an output that was punished into silence would have e = 0
and never recover. GliaGL moves thresholds for the same purpose.

The rule uses no error and no derivative. The right answer enters through the reward only. R rises with the margin. The
"softplus margin" `sigma(g (margin - m))` of GliaGL (f08ecd3) falls with it and so rewards wrong answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_dt.experimental.leaky_sum import leaky_sum
from snn_dt.experimental.rsnn.rates import margins
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN


@dataclass(frozen=True)
class HebbianConfig:
    """Reward and eligibility of `learn.rule: hebbian`."""

    reward: Literal["margin", "sign"] = "margin"
    """`margin`: rises smoothly with the margin; `sign`: `high` or `low` by the sign of the margin."""
    high: float = 1.2
    """Reward of a clearly right answer."""
    low: float = -0.8
    """Reward of a clearly wrong one."""
    margin: float = 0.05
    """Margin from which a right answer counts as clear, in spikes per step."""
    steepness: float = 100.0
    """Steepness of the reward over the margin, per unit of rate; a margin of 0 gives the middle of `low` and `high`.
    With the middle at a clear margin, barely right answers would get less than the mean reward and be unlearned."""
    skip_clear: bool = True
    """Skip answers that are right by `margin` or more."""
    gate: Literal["winner", "target", "none"] = "winner"
    """Outputs whose synapses change: the answering one, the right one (unknown to a bandit), or all."""
    trace: float = 0.5
    """Decay per step of the trace of a source's spikes."""
    baseline: float = 0.1
    """Weight of the newest reward in the running mean Rbar."""
    homeostasis: float = 0.1
    """Weight of the term that keeps each target neuron near `rate_target`; 0 disables it."""
    rate_target: float = 0.05
    """Target rate of the homeostasis term, spikes per step."""
    plastic: tuple[str, ...] = ("readout",)
    """Connections that change: some of input, recurrent, readout."""


def reward(config: HebbianConfig, margin: Tensor) -> Tensor:
    """Return R [B] of margins [B]."""
    if config.reward == "sign":
        return torch.where(margin > 0, config.high, config.low).to(margin)
    return config.low + (config.high - config.low) * torch.sigmoid(config.steepness * margin)


def eligibility(pre: Tensor, post: Tensor, trace: float) -> Tensor:
    """Return e [B, N, S] of the spikes `pre` [T, B, S] and `post` [T, B, N]."""
    # the trace includes the source's spike of the same step
    return torch.einsum("tbn,tbs->bns", post, leaky_sum(pre, trace)) / len(pre)


class Hebbian:
    """Writes `-dw / eta` into `.grad` of a network with a spiking read-out; any optimizer of torch applies it."""

    def __init__(self, network: RecurrentSNN, config: HebbianConfig) -> None:
        unknown = sorted(set(config.plastic) - set(network.synapses))
        if unknown:
            known = ", ".join(network.synapses)
            raise ValueError(f"plastic: expected some of {known}; found {', '.join(unknown)}")
        self.network, self.config = network, config
        self.expected = torch.zeros(())

    @torch.no_grad()
    def learn(self, x: Tensor, spikes: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Set gradients from input, hidden and output spikes and the right answers [B]. Return the rewards [B]."""
        config, rates = self.config, outputs.mean(0)  # [B, O]
        margin = margins(rates, targets)
        value = reward(config, margin)  # R [B]
        better = value - self.expected.to(value)  # R - Rbar; Rbar of earlier samples only
        self.expected = self.expected + config.baseline * (value.mean().cpu() - self.expected)
        if config.skip_clear:
            better = better * (margin < config.margin)  # no change for clear answers
        gate = torch.ones_like(rates)
        if config.gate != "none":
            chosen = rates.argmax(-1) if config.gate == "winner" else targets  # [B]
            gate = F.one_hot(chosen, rates.shape[-1]).to(rates)
        before = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])  # recurrent spikes act one step later
        pairs = {"input": (x, spikes), "recurrent": (before, spikes), "readout": (spikes, outputs * gate)}
        for name, part in self.network.synapses.items():
            part.weight.grad = None  # layers that are not plastic get no update
            if name in config.plastic:
                pre, gated = pairs[name]
                post = outputs if name == "readout" else spikes  # homeostasis is not gated
                change = torch.tensordot(better, eligibility(pre, gated, config.trace), 1) / len(better)  # [N, S]
                change += config.homeostasis * (config.rate_target - post.mean((0, 1))).unsqueeze(-1)
                part.weight.grad = -change * part.mask  # missing connections stay missing
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return the running mean of rewards."""
        return {"expected": self.expected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.expected = state["expected"]
