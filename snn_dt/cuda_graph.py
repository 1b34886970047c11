"""A computation on a GPU as one CUDA graph: a small model's kernels take less time than the calls that launch them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOST = 64
"""Graphs of one computation: more shapes of input are not worth their memory."""


class CudaGraph:
    """`compute(*tensors) -> result`, recorded once it has been called with inputs of some shapes, and replayed.

    What `compute` does on the host happens while it is called and recorded, never when it is replayed: it may not look
    at values, and what it changes on the device it must change in place. Its result, whatever holds tensors, is
    overwritten by the next call with inputs of the same shapes.

    Args:
        compute: takes tensors on one GPU.
        after: calls with inputs of the same shapes before it is recorded; at least one.
    """

    def __init__(self, compute: Callable[..., Any], after: int) -> None:
        self._compute, self._after = compute, after
        self._calls: Counter[Any] = Counter()
        self._recorded: dict[Any, tuple[torch.cuda.CUDAGraph, list[Tensor], Any]] = {}
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Return what `compute` would."""
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if shapes not in self._recorded:
            self._calls[shapes] += 1
            if self._calls[shapes] <= self._after or len(self._recorded) == MOST:
                return self._aside(inputs)
            self._recorded[shapes] = self._record(inputs)
        graph, held, result = self._recorded[shapes]
        torch._foreach_copy_(held, list(inputs))
        graph.replay()
        return result

    def _aside(self, inputs: tuple[Tensor, ...]) -> Any:
        """Compute on the stream that is recorded later, as libraries set themselves up for each stream."""
        with torch.cuda.device(inputs[0].device):
            current = torch.cuda.current_stream()
            self._stream = self._stream or torch.cuda.Stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                result = self._compute(*inputs)
            current.wait_stream(self._stream)
        return result

    def _record(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Any]:
        with torch.inference_mode(False):  # a tensor made in that mode could not be written to outside it
            held = [torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x) for x in inputs]
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(inputs[0].device),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            return graph, held, self._compute(*held)
