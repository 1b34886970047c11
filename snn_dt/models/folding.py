"""Fold the norms of DSFormer into the linear layers before them, for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

from snn_dt.models.layers import MaskedSequential, SpikeLinear
from snn_dt.models.norms import PTBN


@torch.no_grad()
def fold_norms(model: nn.Module) -> nn.Module:
    """Return a copy for inference, every `PTBN` folded into the `SpikeLinear` before it; predictions stay the same.

    In evaluation a PTBN is `y = a x + c` per channel, so `a (W s + b) + c` is a linear layer with weight `a W` and bias
    `a b + c`. The copy cannot go on training: its norms are gone.
    """
    folded = copy.deepcopy(model).eval()
    for parent in list(folded.modules()):
        for name, chain in list(parent.named_children()):
            if isinstance(chain, MaskedSequential):
                setattr(parent, name, _fold_chain(chain))
    return folded


def _fold_chain(chain: MaskedSequential) -> MaskedSequential:
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
    return MaskedSequential(*parts)
