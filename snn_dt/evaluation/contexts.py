"""The context that fits a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from snn_dt.evaluation.context import Context
from snn_dt.evaluation.image_context import ImageContext
from snn_dt.evaluation.stream_context import StreamContext
from snn_dt.models.encoders import kept_dim
from snn_dt.models.interface import SequenceModel, decides_from_state

AnyContext = Context | StreamContext | ImageContext


def make_context(
    model: nn.Module | SequenceModel, n: int, device: torch.device, context_length: int | None = None
) -> AnyContext:
    """Return the context of `n` episodes: the state that the model decides from, or the last K steps.

    `context_length` is a smaller K than that of the model.
    """
    window: Any = model
    context: Any
    if decides_from_state(model):
        context = StreamContext(model, n, device)
    else:
        length = context_length or window.context_length
        context = Context(n, length, kept_dim(window), window.action_dim, window.discrete, device)
    images = getattr(getattr(model, "task", None), "image", None) is not None
    return ImageContext(context, model, n, device) if images else context
