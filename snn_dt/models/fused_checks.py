"""Checks of a model before a C++ kernel computes several of its modules in one call.

A kernel computes what the classes of this package compute. A subclass, a `forward` of a user's own or a missing bias
must be left to the modules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snn_dt.snn import SpikingLayer


def only(model: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Tell whether all modules are of exactly these types, with the `forward` of their class, none of them in training.

    Layer norms have a weight and a bias, which the kernels read.
    """
    return all(
        type(m) in kinds
        and "forward" not in vars(m)
        and not m.training
        and not (isinstance(m, nn.LayerNorm) and (m.weight is None or m.bias is None))
        for m in model.modules()
    )


def biased(model: nn.Module) -> bool:
    """Tell whether all linear layers have a bias."""
    return all(m.bias is not None for m in model.modules() if isinstance(m, nn.Linear))


def alike(*tensors: Tensor) -> bool:
    """Tell whether all tensors have one type and are contiguous on the CPU, as the kernels read them."""
    return len({x.dtype for x in tensors}) == 1 and all(x.device.type == "cpu" and x.is_contiguous() for x in tensors)


def neurons(model: nn.Module) -> list[SpikingLayer]:
    """Return the layers of neurons of a model."""
    return [m for m in model.modules() if isinstance(m, SpikingLayer)]


def pair(layer: nn.Module) -> list[Tensor | None]:
    """Return the two tensors of a linear layer or a layer norm, detached."""
    found = [layer.get_parameter("weight"), layer.get_parameter("bias")]
    return [x.detach() for x in found]


def float32(model: nn.Module) -> bool:
    """Tell whether all parameters are contiguous float32 tensors on the CPU."""
    tensors = list(model.parameters())
    return alike(*tensors) and tensors[0].dtype == torch.float32
