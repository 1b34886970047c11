"""Run a step of the streaming model as one call into `snn_dt/snn/stream.cpp` for decisions on a CPU.

The kernel adds in another order than the modules, so the predictions agree to rounding.

B rows, A action dimensions or number of discrete actions, D width.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.decay import DecayAttention
from snn_dt.models.fused_checks import alike, biased, neurons, only, pair
from snn_dt.models.interface import State
from snn_dt.models.layers import ActionHead, SpikeLinear
from snn_dt.models.return_code import ReturnCode
from snn_dt.models.spread import ActionSpread
from snn_dt.models.stream import StreamTransformer
from snn_dt.models.stream_block import StreamBlock
from snn_dt.models.stream_embedding import StreamEmbedding
from snn_dt.snn import LIF, GoalNorm, TokenLIF
from snn_dt.snn.backends import backend_for
from snn_dt.snn.cpp import SUFFIX, load, pointer_to_constants

KINDS = (
    StreamTransformer, StreamEmbedding, ReturnCode, StreamBlock, TokenLIF, LIF, DecayAttention, SpikeLinear, ActionHead,
    nn.Embedding, nn.Linear, nn.LayerNorm, GoalNorm, ActionSpread, nn.ModuleList, nn.Dropout,
)  # fmt: skip
"""Module types that the kernel supports."""
SIZES = ("rows", "states", "actions", "units", "width", "hidden", "heads", "layers", "discrete", "bounded")


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in SIZES] + [(n, ctypes.c_double) for n in ("low", "high", "eps")]


class FusedStep:
    """Compute `StreamTransformer.step` with one C++ call. The state is changed in place.

    The kernel reads the weights from the model's memory, so a changed weight is used from the next step on. A replaced
    module, parameter, constant or data pointer requires a new `FusedStep`.
    """

    def __init__(self, model: StreamTransformer) -> None:
        self._model, self._dtype = model, model.head.weight.dtype
        self._addresses: list[int] = []
        self._look_up()

    def __call__(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by one real step and return predictions `[B, A]` with `state`.

        `rtg` is `[B, 1]`; `states` is `[B, state_dim]`, or features of an image.
        """
        if not rtg.dtype == states.dtype == self._dtype:  # the modules raise the error
            return self._model.step(rtg, states, state)
        rows = states.shape[0]
        predictions = states.new_empty(rows, self._shape.actions)  # [B, A]
        # The list keeps contiguous copies alive until the call returns.
        tensors = [predictions, rtg.contiguous(), states.contiguous(), state["begun"], state["action"].contiguous()]
        self._pointers[:5] = [x.data_ptr() for x in tensors]
        addresses = [state[name].data_ptr() for name in self._names]
        if addresses != self._addresses:  # another state; that of one episode stays where it is
            self._addresses = addresses
            for at, address in zip(self._places, addresses, strict=True):
                self._pointers[at] = address
        self._shape.rows = rows
        self._function(self._pointers, self._at_shape, self._neuron, torch.get_num_threads())
        return predictions, state

    def _look_up(self) -> None:
        """Collect the constants of the model and the addresses of its weights in the order of `stream.cpp`."""
        model = self._model
        embedding, head, c, task = model.embedding, model.head, model.config, model.task
        self._function = getattr(load(), f"stream_step_{SUFFIX[head.weight.dtype]}")
        self._neuron = pointer_to_constants(neurons(model)[0].constants)
        self._shape = _Shape(
            *(
                0,
                embedding.state.in_features,
                task.action_dim,
                len(embedding.code.slope),
                c.d_model,
                c.mlp_ratio * c.d_model,
            ),
            *(c.n_heads, c.n_layers, task.discrete, head.bounded, embedding.code.low, embedding.code.high),
            model.norm.eps,
        )
        tensors: list[Any] = [None] * 5  # predictions and inputs, filled in at each call
        tensors += [embedding.code.slope, embedding.code.shift, *pair(embedding.gate), *pair(embedding.state)]
        tensors += [embedding.action.weight, *pair(embedding.norm)]
        self._names: list[str] = []
        self._places: list[int] = []
        blocks: Any = model.blocks
        for i, block in enumerate(blocks):
            tensors += _weights(block)
            self._names += [f"blocks.{i}.{name}" for name in block.state]
            self._places += range(len(tensors), len(tensors) + len(block.state))
            tensors += [None] * len(block.state)  # state tensors, filled in at each call
        tensors += [*pair(model.norm), *pair(head), *((head.low, head.high) if head.bounded else ())]
        self._at_shape = ctypes.byref(self._shape)
        self._pointers = (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])


def knows_step(model: nn.Module) -> bool:
    """Return whether `FusedStep` computes the same as the modules of `model`.

    The kernel needs one epsilon and one set of constants for all layers. It also needs a CPU and a C++ compiler.
    """
    if type(model) is not StreamTransformer or backend_for("cpu") != "cpp" or not only(model, *KINDS):
        return False
    if model.embedding.goal is not None:  # the kernel reads the return-to-go alone
        return False
    cells, head, action = neurons(model), model.head, model.embedding.action
    others = (*model.blocks, model.embedding.gate, model.embedding.state, head)
    if getattr(action, "bias", None) is not None or not all(map(biased, others)) or head.plastic is not None:
        return False
    norms = [getattr(n, "norm", None) for n in cells]
    if not all(norm is None or type(norm) in (nn.LayerNorm, GoalNorm) for norm in norms):
        return False
    # Constants of the backward pass are removed. Neurons may differ in them.
    forward = {(n._fused, n.constants.coefficients._replace(slope=0.0, attach=0.0, surrogate=0)) for n in cells}
    eps = {m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)}
    tensors = [*model.parameters(), *model.buffers()]
    return len(eps) == len(forward) == 1 and forward.pop()[0] and alike(*tensors) and tensors[0].dtype in SUFFIX


def _weights(block: Any) -> list[Tensor | None]:
    """Return the weights of a block in the order of `stream.cpp`."""
    return [
        *(*pair(block.lif_in.norm), *pair(block.qkv), block.attend.raw),
        *(*pair(block.lif_out.norm), *pair(block.out), *pair(block.lif_mlp.norm), *pair(block.mlp_in)),
        *pair(block.mlp_out),
    ]
