"""A step of the streaming model as one call into `snn_dt/snn/stream.cpp`, for decisions on a CPU.

B rows side by side, A actions, D width. The same sums in another order: equal to the modules to rounding.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.decay import DecayAttention
from snn_dt.models.hooks import Watch, alike, biased, only
from snn_dt.models.layers import ActionHead, SpikeLinear
from snn_dt.models.stream import StreamTransformer
from snn_dt.models.stream_block import State, StreamBlock
from snn_dt.models.stream_embedding import ReturnCode, StreamEmbedding
from snn_dt.snn import LIF, TokenLIF
from snn_dt.snn.backends import backend_for
from snn_dt.snn.cpp import SUFFIX, load, pointer_to_constants

KINDS = (
    StreamTransformer, StreamEmbedding, ReturnCode, StreamBlock, TokenLIF, LIF, DecayAttention, SpikeLinear, ActionHead,
    nn.Embedding, nn.Linear, nn.LayerNorm, nn.ModuleList, nn.Dropout,
)  # fmt: skip
"""Types of the modules that the kernel knows."""
SIZES = ("rows", "states", "actions", "units", "width", "hidden", "heads", "layers", "discrete", "bounded")


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in SIZES] + [(n, ctypes.c_double) for n in ("low", "high", "eps")]


class FusedStep:
    """`StreamTransformer.step` by one kernel, with the weights that `model` has now; states are changed in place.

    Weights are read where they lie, and where that is, and every constant, is looked up anew when something is another
    than it was (`Watch`). A copy of it, as of a running policy, works with the copy of the model.
    """

    def __init__(self, model: StreamTransformer) -> None:
        self.model = model
        self._watch: Watch | None = None
        self._known = False

    def __reduce__(self) -> tuple[type[FusedStep], tuple[StreamTransformer]]:
        return FusedStep, (self.model,)

    @property
    def usable(self) -> bool:
        """Whether the kernel may stand for the modules: it knows them, and nobody watches them (energy, rates)."""
        if self._watch is None or self._watch.moved():
            self._watch, self._known = Watch(self.model), _known(self.model)
            if self._known:
                self._look_up()
        return self._known and not self._watch.watched

    def __call__(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by one real step, `rtg [B, 1]`, `states [B, state_dim]`; return predictions `[B, A]` and `state`.

        The modules do it where this is not `usable`, or for tensors of another type than theirs.
        """
        if not self.usable or not rtg.dtype == states.dtype == self.model.head.weight.dtype:
            return self.model.step(rtg, states, state)
        predictions = states.new_empty(len(states), self._shape.actions)
        tensors = [predictions, rtg.contiguous(), states.contiguous(), state["begun"], state["action"].contiguous()]
        pointers = self._pointers
        pointers[:5] = [x.data_ptr() for x in tensors]
        for name, at in self._places:
            pointers[at] = state[name].data_ptr()
        self._shape.rows = len(states)
        self._function(pointers, ctypes.byref(self._shape), self._neuron, torch.get_num_threads())
        state["begun"].fill_(True)
        return predictions, state

    def _look_up(self) -> None:
        """Note the model's constants and where its weights lie."""
        model = self.model
        embedding, head, c, task = model.embedding, model.head, model.config, model.task
        self._function = getattr(load(), f"stream_step_{SUFFIX[head.weight.dtype]}")
        self._neuron = pointer_to_constants(_neurons(model)[0].constants)
        self._shape = _Shape(
            *(0, task.state_dim, task.action_dim, len(embedding.code.slope), c.d_model, c.mlp_ratio * c.d_model),
            *(c.n_heads, c.n_layers, task.discrete, head.bounded, embedding.code.low, embedding.code.high),
            model.norm.eps,
        )
        tensors: list[Any] = [None] * 5
        tensors += [embedding.code.slope, embedding.code.shift, *_pair(embedding.gate), *_pair(embedding.state)]
        tensors += [embedding.action.weight, *_pair(embedding.norm)]
        self._places: list[tuple[str, int]] = []
        for i, block in enumerate(model.blocks):
            tensors += _weights(block)
            self._places += [(f"blocks.{i}.{name}", len(tensors) + n) for n, name in enumerate(block.state)]
            tensors += [None] * len(block.state)
        tensors += [*_pair(model.norm), *_pair(head), *((head.low, head.high) if head.bounded else ())]
        self._pointers = (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])


def fused_step(model: nn.Module) -> FusedStep | None:
    """Return the fused step of a streaming model that the kernel knows, on a CPU with a C++ compiler, else None."""
    return FusedStep(model) if _known(model) else None


def _neurons(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, TokenLIF)]


def _known(model: Any) -> bool:
    """Tell whether the kernel computes what these modules do: their types, and what it takes to be the same in all."""
    if type(model) is not StreamTransformer or backend_for("cpu") != "cpp" or not only(model, *KINDS):
        return False
    neurons, head, action = _neurons(model), model.head, model.embedding.action
    others = (*model.blocks, model.embedding.gate, model.embedding.state, head)
    if getattr(action, "bias", None) is not None or not all(map(biased, others)):
        return False
    eps = {m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)}
    forward = {(n._fused, n.constants.coefficients._replace(slope=0.0, attach=0.0, surrogate=0)) for n in neurons}
    tensors = [*model.parameters(), *model.buffers()]
    plain = all(n.norm is None or type(n.norm) is nn.LayerNorm for n in neurons) and head.plastic is None
    return (
        plain and len(eps) == len(forward) == 1 and forward.pop()[0] and alike(*tensors) and tensors[0].dtype in SUFFIX
    )


def _weights(block: Any) -> list[Tensor]:
    return [
        *(*_pair(block.lif_in.norm), *_pair(block.qkv), block.attend.raw),
        *(*_pair(block.lif_out.norm), *_pair(block.out), *_pair(block.lif_mlp.norm), *_pair(block.mlp_in)),
        *_pair(block.mlp_out),
    ]


def _pair(layer: Any) -> list[Tensor]:
    return [layer.weight, layer.bias]
