"""A decision on a GPU as one CUDA graph."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from snn_dt.cuda_graph import CudaGraph
from snn_dt.models.hooks import Watch

AFTER = 20
"""Decisions of a shape before they are recorded, which takes as long as some fifty of them."""


class GraphedDecision:
    """`(model, inputs) -> predictions [B, 1, A]` of the last step, or None where the modules have to be called.

    They have to on a CPU, in training, and where somebody listens to them through hooks (energy, firing rates,
    plasticity). Recorded anew when a weight, a constant or a module is another one (`Watch`); a weight that was written
    to is read again by every replay.
    """

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._replay: CudaGraph | None = None

    def __reduce__(self) -> tuple[type[GraphedDecision], tuple[()]]:
        return GraphedDecision, ()  # a graph cannot be copied, and is of the weights that it was recorded with

    def __call__(self, model: Any, inputs: tuple[Tensor, ...]) -> Tensor | None:
        """Return what `model._predict(*inputs, last_only=True)` does."""
        if not inputs[0].is_cuda or torch.is_grad_enabled() or model.training or torch.compiler.is_compiling():
            return None
        if torch.cuda.is_current_stream_capturing():
            return None
        if self._watch is None or self._replay is None or self._watch.moved():
            self._watch, self._replay = Watch(model), CudaGraph(partial(model._predict, last_only=True), AFTER)
        if self._watch.watched:
            return None
        result: Tensor = self._replay(*inputs)
        return result.clone()
