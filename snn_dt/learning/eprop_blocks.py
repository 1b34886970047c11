r"""e-prop in the blocks of the spiking Decision Transformer: errors pass a layer of neurons within a simulation step.

B batch, L tokens, D width, T simulation steps, along which the traces run; spikes `[T, B, L, D]`.

A layer of neurons reads spikes s of the layer before through weights W and a norm, `I_t = norm(W s_t + b)`, and fires
z_t. With L_t = dE/dz_t its learning signal, e-prop and backpropagation through time agree on its own weights, whose
eligibility is the derivative through the neuron's own membrane, reset included (`experimental/analysis/jacobian.py`):

```
dE/dW = sum_t L_t e_t,      e_t = dz_t/dW = sum_(t' <= t) dz_t/dI_t' dI_t'/dW
```

and differ in the learning signal that the layer hands down to the neurons it reads,

```
dE/ds_t = sum_(t' >= t) L_t' dz_t'/dI_t dI_t/ds_t        backpropagation through time: needs the future of the layer
dE/ds_t =               L_t  dz_t /dI_t dI_t/ds_t        e-prop: the surrogate of the same step, gain psi_t
```

So, with symmetric feedback, the gradient is exact

- in the head, and in the last linear layer of the MLP, behind which there are no neurons,
- in the MLP's first linear layer and the norm behind it, whose neurons are read out by a mean over time,
- wherever a layer reads a current that is the same in all T steps (`coding: rate`, where all do; attention over
  counts; the first block): then `sum_t L_t sum_(t' <= t) dz_t/dI_t'` is found forwards in time, too, one number for
  each neuron, and handed down at the end of the T steps. In `rate`, e-prop is backpropagation.

and approximate in whatever reaches the loss through a layer that reads spikes: the attention's output projection, and
all before it. Space (weights, norms, attention) is crossed as in backpropagation. `feedback: random` puts a fixed
random matrix in the place of the head's weights where errors leave it; only the head's own gradient stays exact then.

What is computed here is the sum of learning signals times traces, found backwards: the same numbers, with memory for T
steps. Source: Bellec et al. 2020; the hand-down of the same step is that of OTTT (Xiao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from snn_dt.errors import ConfigError
from snn_dt.models.layers import ActionHead, MaskedSequential
from snn_dt.rule_config import EpropConfig
from snn_dt.snn import LIF, TimedLIF, get_surrogate
from snn_dt.snn.reference import reset
from snn_dt.snn.scan import HALF_TYPES

Undo = Callable[[], None]


def use_eprop(model: Any, config: EpropConfig, seed: int = 0) -> Undo:
    """Give `model` (`kind: snn_dt`) the gradients of e-prop; its predictions stay as they are, bit for bit.

    Args:
        model: see `snn_dt.models.DecisionTransformer`.
        config: feedback, and what happens to the blocks before the last.
        seed: of random feedback, which no checkpoint holds.

    Returns:
        A function that restores the gradients of backpropagation.

    Raises:
        ConfigError: layers of spike trains whose neurons are not plain `LIF`, whose derivative is known here.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, TimedLIF) and not _has_plain_lif(layer):
            raise ConfigError(
                f"train.rule: expected neurons `lif` for eprop with coding spikes, found {type(layer.neuron).__name__} "
                f"with other dynamics in {name}; choose model.neuron lif, or train.rule bptt"
            )
    last = len(model.blocks) - 1
    local = [block for i, block in enumerate(model.blocks) if i == last or config.below == "eprop"]
    below = [model.embedding, *model.blocks[:-1], *([model.phase_gate] if model.phase_gate is not None else [])]
    frozen = [p for part in below for p in part.parameters()] if config.below == "frozen" else []
    undo: list[Undo] = []
    for block in local:
        undo += [_in_chain(part) for part in block.modules() if isinstance(part, MaskedSequential)]
        alone = (block.attention.lif_in, block.attention.lif_out)
        undo += [_alone(part) for part in alone if isinstance(part, TimedLIF)]
    if config.feedback == "random":
        undo.append(_random_feedback(model.head, seed))
    for p in frozen:
        p.requires_grad_(False)

    def take_back() -> None:
        for one in undo:
            one()
        for p in frozen:
            p.requires_grad_(True)

    return take_back


def _has_plain_lif(layer: TimedLIF) -> bool:
    neuron = layer.neuron
    fixed = isinstance(neuron, LIF) and neuron.raw_leak is None and neuron.raw_threshold is None
    return fixed and layer.constants.plain


def hand_down(before: Sequence[nn.Module], neurons: TimedLIF, own: Tensor, x: Tensor) -> Tensor:
    """Return the spikes `own` of `neurons` behind `before`, with a gradient by `x` that is e-prop's.

    `own` must depend on `x` through no graph; its gradient by the parameters is left to it.
    """
    current = x
    for part in (*before, *(() if neurons.norm is None else (neurons.norm,))):
        current = functional_call(part, {name: p.detach() for name, p in part.named_parameters()}, (current,))
    handed = (same_step(current.detach(), neurons) * current).to(own.dtype)
    return own + (handed - handed.detach())


@torch.no_grad()
def same_step(current: Tensor, neurons: TimedLIF) -> Tensor:
    """Return `dz_t / dI_t` [T, ...] of neurons that begin at rest: gain times the surrogate where a step may fire."""
    p, found = neurons.constants, []
    current = current.float() if current.dtype in HALF_TYPES else current  # as the neurons do
    v, psi = torch.full_like(current[0], p.v_rest), get_surrogate(p.surrogate).derivative
    for now in current:
        h = v + p.leak * (p.v_rest - v) + p.gain * now
        u = h - p.v_threshold
        found.append(p.gain * psi(u, p.surrogate_slope))
        v = reset(h, (u >= 0).to(h.dtype), p, p.v_threshold)
    return torch.stack(found)


def _in_chain(chain: MaskedSequential) -> Undo:
    """Cut a chain at its neurons: each layer of them, with the modules in front of it, learns by itself."""

    def forward(x: Tensor, real: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return MaskedSequential.forward(chain, x, real)
        before: list[nn.Module] = []
        for part in chain:
            before.append(part)
            if isinstance(part, TimedLIF) and x.dim() == 4:
                own = x.detach()
                for module in before:
                    own = MaskedSequential.call(module, own, real)
                x = hand_down(before[:-1], part, own, x) if x.requires_grad else own
                before = []
            elif isinstance(part, TimedLIF):
                for module in before:
                    x = MaskedSequential.call(module, x, real)
                before = []
        for module in before:  # no neurons behind these
            x = MaskedSequential.call(module, x, real)
        return x

    return _replace(chain, "forward", forward)


def _alone(neurons: TimedLIF) -> Undo:
    """Cut at neurons in front of which there is nothing but their norm."""

    def forward(x: Tensor) -> Tensor:
        if x.dim() == 3 or not (torch.is_grad_enabled() and x.requires_grad):
            return TimedLIF.forward(neurons, x)
        return hand_down((), neurons, TimedLIF.forward(neurons, x.detach()), x)

    return _replace(neurons, "forward", forward)


def _random_feedback(head: ActionHead, seed: int) -> Undo:
    """Let errors leave the head through weights drawn once, uniform as its own were at first."""
    bound = head.in_features**-0.5
    back = torch.empty(head.weight.shape).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
    back = back.to(head.weight)

    def drive(x: Tensor) -> Tensor:
        return ActionHead.drive(head, x.detach()) + F.linear(x - x.detach(), back)

    return _replace(head, "drive", drive)


def _replace(module: nn.Module, name: str, method: Callable[..., Tensor]) -> Undo:
    setattr(module, name, method)
    return lambda: delattr(module, name)
