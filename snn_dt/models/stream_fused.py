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
from snn_dt.models.stream_block import State, StreamBlock, TokenLIF
from snn_dt.models.stream_embedding import ReturnCode, StreamEmbedding
from snn_dt.snn import LIF
from snn_dt.snn.backends import backend_for
from snn_dt.snn.cpp import SUFFIX, load, pointer_to_constants

KINDS = (
    StreamTransformer, StreamEmbedding, ReturnCode, StreamBlock, TokenLIF, DecayAttention, SpikeLinear, ActionHead,
    nn.Embedding, nn.Linear, nn.LayerNorm, nn.ModuleList, nn.Dropout,
)  # fmt: skip
"""Types of the modules that the kernel knows."""
SIZES = ("rows", "states", "actions", "units", "width", "hidden", "heads", "layers", "discrete", "bounded")


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in SIZES] + [(n, ctypes.c_double) for n in ("low", "high", "eps")]


class FusedStep:
    """`StreamTransformer.step` by one kernel, with the weights that `model` has now; states are changed in place.

    What had to be copied is copied anew whenever a weight is another than it was (`Watch`), which is looked for at
    every step. A copy of it, as of a running policy, works with the copy of the model.
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
        return self._known and not self._watch.watched

    def __call__(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by one real step, `rtg [B, 1]`, `states [B, state_dim]`; return predictions `[B, A]` and `state`.

        The modules do it where this is not `usable`, or for tensors of another type than theirs.
        """
        if not self.usable or not rtg.dtype == states.dtype == self.model.head.weight.dtype:
            return self.model.step(rtg, states, state)
        if self._watch.written():  # type: ignore[union-attr]
            self._copy()
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

    def _copy(self) -> None:
        """Read the model: matrices turned round, and where everything lies."""
        model = self.model
        embedding, head, c, task = model.embedding, model.head, model.config, model.task
        self._function = getattr(load(), f"stream_step_{SUFFIX[head.weight.dtype]}")
        self._neuron = pointer_to_constants(_neurons(model)[0].constants)
        self._shape = _Shape(
            *(0, task.state_dim, task.action_dim, len(embedding.code.slope), c.d_model, c.mlp_ratio * c.d_model),
            *(c.n_heads, c.n_layers, task.discrete, head.bounded, embedding.code.low, embedding.code.high),
            model.norm.eps,
        )
        action: Any = embedding.action.weight
        tensors: list[Any] = [None] * 5
        tensors += [embedding.code.slope, embedding.code.shift, *_matrix(embedding.gate), *_matrix(embedding.state)]
        tensors += [action if task.discrete else action.detach().t().contiguous(), *_norm(embedding.norm)]
        self._places: list[tuple[str, int]] = []
        for i, block in enumerate(model.blocks):
            tensors += _weights(block)
            self._places += [(f"blocks.{i}.{name}", len(tensors) + n) for n, name in enumerate(block.state)]
            tensors += [None] * len(block.state)
        tensors += [*_norm(model.norm), *_matrix(head), *((head.low, head.high) if head.bounded else ())]
        self._kept = tensors
        self._pointers = (ctypes.c_void_p * len(tensors))(*[None if x is None else x.data_ptr() for x in tensors])


def fused_step(model: nn.Module) -> FusedStep | None:
    """Return the fused step of a streaming model that the kernel knows, on a CPU with a C++ compiler, else None."""
    return FusedStep(model) if _known(model) else None


def _neurons(model: Any) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, LIF)]


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
    return plain and len(eps) == len(forward) == 1 and forward.pop()[0] and alike(*tensors) and tensors[0].dtype in SUFFIX


def _weights(block: Any) -> list[Tensor]:
    decay = block.attend
    return [
        *(*_norm(block.lif_in.norm), *_matrix(block.qkv), torch.sigmoid(decay.raw), torch.sigmoid(-decay.raw)),
        *(*_norm(block.lif_out.norm), *_matrix(block.out), *_norm(block.lif_mlp.norm), *_matrix(block.mlp_in)),
        *_matrix(block.mlp_out),
    ]


def _norm(norm: Any) -> list[Tensor]:
    return [norm.weight, norm.bias]  # as they lie


def _matrix(linear: Any) -> list[Tensor]:
    return [linear.weight.detach().t().contiguous(), linear.bias]
