"""Norms folded into the linear layers before them, and the proof that spikes drive all that is left in a block."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from snn_dt.models.layers import Chain, SpikeLinear, TimedLIF, TimeMean
from snn_dt.models.mixing import PSSA, TSSA
from snn_dt.models.norms import PTBN

SPIKE_DRIVEN = (SpikeLinear, TimedLIF, TSSA, PSSA)
WIRING = (Chain, nn.Sequential, TimeMean, nn.Identity, nn.Dropout)


@torch.no_grad()
def fold_norms(model: nn.Module) -> nn.Module:
    """Return a copy for inference, every `PTBN` folded into the `SpikeLinear` before it; predictions stay the same.

    In evaluation a PTBN is `y = a x + c` per channel, so `a (W s + b) + c` is a linear layer with weight `a W` and bias
    `a b + c`. The copy cannot go on training: its norms are gone.
    """
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        for name, chain in list(parent.named_children()):
            if isinstance(chain, Chain):
                setattr(parent, name, _fold_chain(chain))
    return folded


def _fold_chain(chain: Chain) -> Chain:
    parts: list[nn.Module] = []
    for part in chain:
        if isinstance(part, PTBN):
            linear = parts[-1]
            assert isinstance(linear, SpikeLinear)
            scale, shift = part.affine()
            linear.weight.mul_(scale.unsqueeze(1))
            linear.bias.mul_(scale).add_(shift)
        else:
            parts.append(part)
    return Chain(*parts)


@torch.no_grad()
def assert_spike_driven(model: nn.Module, *batch: Tensor) -> None:
    """Raise `AssertionError` unless spikes drive all that the blocks of `model` compute.

    Only linear layers, neurons and spiking attention may compute in a block; while the model predicts a `batch` (rtg,
    states, actions, timesteps, attention_mask), each of these linear layers must be fed binary spikes.
    """
    blocks: nn.ModuleList = model.blocks  # type: ignore[assignment]
    for block in blocks:
        for name, module in block.named_modules():
            composed = module is block or module is block.attention
            assert composed or isinstance(module, SPIKE_DRIVEN + WIRING), f"{name}: {type(module).__name__} is analogue"
    handles = [
        module.register_forward_pre_hook(_assert_binary)
        for module in blocks.modules()
        if isinstance(module, SpikeLinear)
    ]
    try:
        model(*batch)
    finally:
        for handle in handles:
            handle.remove()


def _assert_binary(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    s = inputs[0]
    assert bool(((s == 0) | (s == 1)).all()), f"{module}: expected binary spikes, found values up to {s.max():g}"
