"""Checks that decide whether a C++ kernel may replace several modules of a model.

A kernel implements the classes of this package. A subclass, a replaced `forward` or a missing bias needs the modules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.snn import GoalNorm, SpikingLayer


def only(model: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Return whether all modules have exactly these types, run the `forward` of their class and are in evaluation.

    Layer norms must have a weight and a bias because the kernels read both. An encoder of images is left out, since its
    features are an input of the kernels.
    """
    encoder = getattr(getattr(model, "embedding", None), "encoder", None)
    outside = set() if encoder is None else set(encoder.modules())
    return all(
        type(m) in kinds
        and "forward" not in vars(m)  # a `forward` assigned to the instance
        and not m.training
        and not (isinstance(m, nn.LayerNorm) and (m.weight is None or m.bias is None))
        for m in model.modules()
        if m not in outside
    )


def biased(model: nn.Module) -> bool:
    """Return whether all linear layers have a bias."""
    return all(m.bias is not None for m in model.modules() if isinstance(m, nn.Linear))


def alike(*tensors: Tensor) -> bool:
    """Return whether all tensors share one dtype and are contiguous on the CPU, as the kernels require."""
    return len({x.dtype for x in tensors}) == 1 and all(x.device.type == "cpu" and x.is_contiguous() for x in tensors)


def neurons(model: nn.Module) -> list[SpikingLayer]:
    """Return the spiking layers of a model."""
    return [m for m in model.modules() if isinstance(m, SpikingLayer)]


def pair(layer: nn.Module) -> list[Tensor | None]:
    """Return the detached weight and bias of a linear layer or layer norm."""
    if isinstance(layer, GoalNorm):
        return [layer.acting_weight, layer.acting_bias]
    found = [layer.get_parameter("weight"), layer.get_parameter("bias")]
    return [x.detach() for x in found]


def float32(model: nn.Module) -> bool:
    """Return whether all parameters are contiguous float32 tensors on the CPU."""
    tensors = list(model.parameters())
    return alike(*tensors) and tensors[0].dtype == torch.float32
