"""Capture of a computation as a CUDA graph.

The kernels of a small model take less time than their launches from Python. A graph launches all of them at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MAX_GRAPHS = 64
"""Largest number of graphs of one computation. Inputs of further shapes are computed without one, to save memory."""


class CudaGraph:
    """A function `compute(*tensors) -> result` that becomes a CUDA graph after some calls with the same input shapes.

    Host code of `compute` does not run when the graph is launched. So it may not depend on values of tensors, and it
    must change tensors in place. The result may be any structure of tensors. The next call with inputs of the same
    shapes overwrites it.

    Args:
        compute: takes tensors on one GPU.
        after: calls with inputs of the same shapes before the capture; at least one.
    """

    def __init__(self, compute: Callable[..., Any], after: int) -> None:
        self._compute, self._after = compute, after
        self._calls: Counter[Any] = Counter()
        self._graphs: dict[Any, tuple[torch.cuda.CUDAGraph, list[Tensor], Any]] = {}
        self._stream: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Return the result of `compute(*inputs)`."""
        shapes = tuple((x.shape, x.dtype) for x in inputs)
        if shapes not in self._graphs:
            self._calls[shapes] += 1
            if self._calls[shapes] <= self._after or len(self._graphs) == MAX_GRAPHS:
                return self._compute_on_side_stream(inputs)
            self._graphs[shapes] = self._capture(inputs)
        graph, static_inputs, result = self._graphs[shapes]
        # A graph reads fixed addresses, so the inputs are copied there.
        torch._foreach_copy_(static_inputs, list(inputs))
        graph.replay()
        return result

    def _compute_on_side_stream(self, inputs: tuple[Tensor, ...]) -> Any:
        """Compute on the stream of the capture: libraries allocate their workspace once per stream."""
        with torch.cuda.device(inputs[0].device):
            current = torch.cuda.current_stream()
            cuda: Any = torch.cuda
            self._stream = self._stream or cuda.Stream()
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                result = self._compute(*inputs)
            current.wait_stream(self._stream)
        return result

    def _capture(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Any]:
        with torch.inference_mode(False):  # an inference tensor could not be written to outside that mode
            static_inputs = [torch.empty(x.shape, dtype=x.dtype, device=x.device).copy_(x) for x in inputs]
        graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(inputs[0].device),
            torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
        ):
            return graph, static_inputs, self._compute(*static_inputs)


Replay = CudaGraph  # its name in 0.1.0
