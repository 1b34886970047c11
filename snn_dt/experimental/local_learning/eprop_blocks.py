r"""e-prop for the blocks of the spiking Decision Transformer: errors cross neurons within one simulation step.

B batch, L tokens, D width, T simulation steps. Traces run along T. Spikes are `[T, B, L, D]`.

A layer of neurons reads spikes s of the layer before it through weights W and a norm, `I_t = norm(W s_t + b)`. It fires
z_t, and its learning signal is L_t = dE/dz_t. e-prop and backpropagation through time give the same gradient for W. The
eligibility is the derivative through the neuron's own membrane, with the reset (`experimental/analysis/jacobian.py`):

```
dE/dW = sum_t L_t e_t,      e_t = dz_t/dW = sum_(t' <= t) dz_t/dI_t' dI_t'/dW
```

They differ in the learning signal that the layer passes to the neurons before it:

```
dE/ds_t = sum_(t' >= t) L_t' dz_t'/dI_t dI_t/ds_t        backpropagation through time: needs the future of the layer
dE/ds_t =               L_t  dz_t /dI_t dI_t/ds_t        e-prop: the surrogate of the same step, gain psi_t
```

With symmetric feedback the gradient is exact

- in the head and in the last linear layer of the MLP, which have no neurons behind them.
- in the first linear layer of the MLP and its norm, whose neurons are read out by a mean over time.
- wherever a layer reads the same current in all T steps: every layer with `coding: rate`, attention over counts, and
  the first block. There `sum_t L_t sum_(t' <= t) dz_t/dI_t'` can be computed forwards in time, as one number per
  neuron, and passed on after the T steps. With `coding: rate` e-prop equals backpropagation.

The gradient is approximate in everything that reaches the loss through a layer that reads spikes. This is the output
projection of the attention and all before it. Weights, norms and attention pass errors as in backpropagation. With
`feedback: random` a fixed random matrix replaces the head's weights in the backward pass. Then only the head's gradient
is exact.

This module computes the sum of learning signals times traces backwards in time. The numbers are the same, and memory
grows with T. Source: Bellec et al. 2020. Passing errors within the same step follows OTTT (Xiao et al. 2022).
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
    """Give `model` (`kind: snn_dt`) the gradients of e-prop. Predictions do not change by a bit.

    Args:
        model: see `snn_dt.models.DecisionTransformer`.
        config: the feedback, and the treatment of the blocks before the last.
        seed: seed of random feedback, which is in no checkpoint.

    Returns:
        A function that restores the gradients of backpropagation.

    Raises:
        ConfigError: a layer of spike trains has neurons other than plain `LIF`. Only their derivative is implemented.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, TimedLIF) and not _has_plain_lif(layer):
            raise ConfigError(
                f"train.rule: expected neurons `lif` for eprop with coding spikes, found {type(layer.neuron).__name__} "
                f"with other dynamics in {name}; choose model.neuron lif, or train.rule bptt"
            )
    last = len(model.blocks) - 1
    local = [block for i, block in enumerate(model.blocks) if i == last or config.below == "eprop"]
    # The phase gate is part of the positions, like the embedding.
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
    """Return the spikes `own` of `neurons` behind the modules `before`, with the e-prop gradient with respect to `x`.

    `own` must not depend on `x` in the graph. Its gradient with respect to the parameters is unchanged.
    """
    current = x
    for part in (*before, *(() if neurons.norm is None else (neurons.norm,))):
        # Detached parameters: this path carries the gradient to `x` only.
        current = functional_call(part, {name: p.detach() for name, p in part.named_parameters()}, (current,))
    handed = (same_step(current.detach(), neurons) * current).to(own.dtype)
    # The value is `own`; the gradient is that of `handed`.
    return own + (handed - handed.detach())


@torch.no_grad()
def same_step(current: Tensor, neurons: TimedLIF) -> Tensor:
    """Return `dz_t / dI_t` `[T, ...]` of neurons that begin at rest: the gain times the surrogate derivative."""
    p, found = neurons.constants, []
    current = current.float() if current.dtype in HALF_TYPES else current  # as the neurons do
    v, psi = torch.full_like(current[0], p.v_rest), get_surrogate(p.surrogate).derivative
    for now in current:
        h = v + p.leak * (p.v_rest - v) + p.gain * now
        # Membrane after integration, before the reset.
        u = h - p.v_threshold
        found.append(p.gain * psi(u, p.surrogate_slope))
        v = reset(h, (u >= 0).to(h.dtype), p, p.v_threshold)
    return torch.stack(found)  # [T, ...]


def _in_chain(chain: MaskedSequential) -> Undo:
    """Cut a chain at its neurons: each layer of them, with the modules in front of it, learns by itself."""

    def forward(x: Tensor, real: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return MaskedSequential.forward(chain, x, real)
        before: list[nn.Module] = []
        for part in chain:
            before.append(part)
            # [T, B, L, D]: spikes vary over time, so errors are cut to the same step.
            if isinstance(part, TimedLIF) and x.dim() == 4:
                own = x.detach()
                for module in before:
                    own = MaskedSequential.call(module, own, real)
                x = hand_down(before[:-1], part, own, x) if x.requires_grad else own
                before = []
            # [B, L, D]: the current is constant over time, and backpropagation equals e-prop.
            elif isinstance(part, TimedLIF):
                for module in before:
                    x = MaskedSequential.call(module, x, real)
                before = []
        for module in before:  # no neurons behind these
            x = MaskedSequential.call(module, x, real)
        return x

    return _replace(chain, "forward", forward)


def _alone(neurons: TimedLIF) -> Undo:
    """Cut the graph at neurons with only their norm before them."""

    def forward(x: Tensor) -> Tensor:
        if x.dim() == 3 or not (torch.is_grad_enabled() and x.requires_grad):
            return TimedLIF.forward(neurons, x)
        return hand_down((), neurons, TimedLIF.forward(neurons, x.detach()), x)

    return _replace(neurons, "forward", forward)


def _random_feedback(head: ActionHead, seed: int) -> Undo:
    """Pass errors from the head through fixed random weights, uniform like its initial weights."""
    bound = head.in_features**-0.5
    back = torch.empty(head.weight.shape).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
    back = back.to(head.weight)

    def drive(x: Tensor) -> Tensor:
        # The value is that of the head; the second term is 0 and sends errors through `back`.
        return ActionHead.drive(head, x.detach()) + F.linear(x - x.detach(), back)

    return _replace(head, "drive", drive)


def _replace(module: nn.Module, name: str, method: Callable[..., Tensor]) -> Undo:
    setattr(module, name, method)
    return lambda: delattr(module, name)
