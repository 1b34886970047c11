r"""Reward-modulated Hebb: what fired together is bound, or parted, by how much better than usual the answer was.

T steps, B samples, O outputs. Spikes of the source `[T, B, S]`, of the target `[T, B, N]`, rates `[B, O]`.

```
x_t = trace x_(t-1) + pre_t,    e_ji = 1/T sum_t post_j,t x_i,t          what fired together
m   = r_y - max_(k != y) r_k                                             margin of the right answer
R   = low + (high - low) sigma(steepness m)                              or: high where m > 0, else low
dw_ji = eta [mean_b (R - Rbar) gate_j e_ji + homeostasis (rate_target - r_j)]
Rbar  = Rbar + baseline (mean_b R - Rbar)
```

The term of homeostasis, r_j a neuron's own mean rate, wakes what has been punished into silence, where e would be 0 for
ever; GliaGL moves thresholds to the same end.

No error and no derivative: only the reward knows the right answer. R rises with the margin; the "softplus margin" of
GliaGL (f08ecd3), `sigma(g (margin - m))`, falls with it, and so pays for being wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from snn_dt.experimental.rsnn.rates import margins
from snn_dt.experimental.rsnn.spiking_network import RecurrentSNN
from snn_dt.snn.filters import leaky_sum


@dataclass(frozen=True)
class HebbianConfig:
    """Reward and eligibility of `rule: hebbian`."""

    reward: Literal["margin", "sign"] = "margin"
    """Rises smoothly with the margin, or is one of two values."""
    high: float = 1.2
    """Reward of a clearly right answer."""
    low: float = -0.8
    """Reward of a clearly wrong one."""
    margin: float = 0.05
    """Difference of rates from which a right answer is clear."""
    steepness: float = 100.0
    """Steepness of the reward over the margin, per unit of rate; half of the way between them is paid at a margin of 0.
    Were it paid at a clear margin, answers that are just right would be worth less than the mean and be unlearned."""
    skip_clear: bool = True
    """Change nothing for an answer that is right by `margin` or more."""
    gate: Literal["winner", "target", "none"] = "winner"
    """The output whose synapses change: the one that answered, the right one (which a bandit does not know), all."""
    trace: float = 0.5
    """Decay per step of the trace that a source's spike leaves."""
    baseline: float = 0.1
    """Weight of the newest reward in the running mean that rewards are measured from."""
    homeostasis: float = 0.1
    """Weight of the term that keeps each target neuron near `rate_target`; 0 leaves it out."""
    rate_target: float = 0.05
    """That rate, in spikes per step."""
    plastic: tuple[str, ...] = ("readout",)
    """Connections that change: input, recurrent, readout."""


def reward(config: HebbianConfig, margin: Tensor) -> Tensor:
    """Return R of margins `[B]`."""
    if config.reward == "sign":
        return torch.where(margin > 0, config.high, config.low).to(margin)
    return config.low + (config.high - config.low) * torch.sigmoid(config.steepness * margin)


def eligibility(pre: Tensor, post: Tensor, trace: float) -> Tensor:
    """Return `e` [B, N, S]."""
    return torch.einsum("tbn,tbs->bns", post, leaky_sum(pre, trace)) / len(pre)


class Hebbian:
    """Writes `-dw / eta` of a network with a spiking read-out into `.grad`, for any of torch's optimizers to follow."""

    def __init__(self, network: RecurrentSNN, config: HebbianConfig) -> None:
        unknown = sorted(set(config.plastic) - set(network.synapses))
        if unknown:
            known = ", ".join(network.synapses)
            raise ValueError(f"plastic: expected some of {known}; found {', '.join(unknown)}")
        self.network, self.config = network, config
        self.expected = torch.zeros(())

    @torch.no_grad()
    def learn(self, x: Tensor, spikes: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Take what happened: inputs, hidden and output spikes, and the right answers `[B]`; return rewards `[B]`."""
        config, rates = self.config, outputs.mean(0)
        margin = margins(rates, targets)
        value = reward(config, margin)
        better = value - self.expected.to(value)
        self.expected = self.expected + config.baseline * (value.mean().cpu() - self.expected)
        if config.skip_clear:
            better = better * (margin < config.margin)
        gate = torch.ones_like(rates)
        if config.gate != "none":
            chosen = rates.argmax(-1) if config.gate == "winner" else targets
            gate = F.one_hot(chosen, rates.shape[-1]).to(rates)
        before = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]])
        pairs = {"input": (x, spikes, 1), "recurrent": (before, spikes, 1), "readout": (spikes, outputs, gate)}
        for name, part in self.network.synapses.items():
            part.weight.grad = None
            if name in config.plastic:
                pre, post, active = pairs[name]
                change = torch.tensordot(better, eligibility(pre, post * active, config.trace), 1) / len(better)
                change += config.homeostasis * (config.rate_target - post.mean((0, 1))).unsqueeze(-1)
                part.weight.grad = -change * part.mask
        return value

    def state_dict(self) -> dict[str, Any]:
        """Return the running mean of rewards."""
        return {"expected": self.expected}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it over."""
        self.expected = state["expected"]
