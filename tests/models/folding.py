"""Fold the norms of DSFormer into the preceding linear layers for inference."""

from __future__ import annotations

import copy

import torch
from torch import nn

from snn_dt.models.layers import MaskedSequential, SpikeLinear
from snn_dt.models.norms import PTBN


@torch.no_grad()
def fold_norms(model: nn.Module) -> nn.Module:
    """Return a copy for inference in which every `PTBN` is folded into the `SpikeLinear` before it.

    In evaluation a PTBN computes `y = a x + c` per channel. `a (W s + b) + c` is a linear layer with weight `a W` and
    bias `a b + c`, so the predictions do not change. The copy has no norms and cannot be trained further.
    """
    folded = copy.deepcopy(model).eval()
    # Lists, because the loop replaces children.
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
            linear.weight.mul_(scale.unsqueeze(1))  # [O, I] times [O, 1]
            linear.bias.mul_(scale).add_(shift)
        else:
            parts.append(part)
    return MaskedSequential(*parts)
