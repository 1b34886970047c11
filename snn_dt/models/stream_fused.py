"""A step of the streaming model as one call into `snn_dt/snn/stream.cpp`, for decisions on a CPU.

B rows side by side, A actions, D width. The same sums in another order: equal to the modules to rounding.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.hooks import hook_tables
from snn_dt.models.stream import StreamTransformer
from snn_dt.models.stream_block import State, StreamBlock
from snn_dt.snn.backends import backend_for
from snn_dt.snn.cpp import SUFFIX, load, pointer_to_constants

SIZES = ("rows", "states", "actions", "units", "width", "hidden", "heads", "layers", "discrete", "bounded")


class _Shape(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in SIZES] + [(n, ctypes.c_double) for n in ("low", "high", "eps")]


class FusedStep:
    """`StreamTransformer.step` for the weights that the model had when this was made; states are changed in place.

    Modules do not run, so whoever watches them (energy, firing rates) sees nothing: `usable` tells when none is
    watched. `fused_step` makes one where it can be had.
    """

    def __init__(self, model: StreamTransformer) -> None:
        self._hooks = hook_tables(model)
        embedding, head, block = model.embedding, model.head, model.blocks[0]
        assert isinstance(block, StreamBlock)
        self._dtype = head.weight.dtype
        self._function = getattr(load(), f"stream_step_{SUFFIX[self._dtype]}")
        self._neuron = pointer_to_constants(block.lif_in.constants)
        c, task = model.config, model.task
        self._shape = _Shape(
            *(0, task.state_dim, task.action_dim, len(embedding.code.slope), c.d_model, c.mlp_ratio * c.d_model),
            *(c.n_heads, c.n_layers, task.discrete, head.bounded, embedding.code.low, embedding.code.high),
            model.norm.eps,
        )
        action = embedding.action.weight
        self._first = [
            *(embedding.code.slope, embedding.code.shift, *_matrix(embedding.gate), *_matrix(embedding.state)),
            *(
                action.detach().contiguous() if task.discrete else action.detach().t().contiguous(),
                *_norm(embedding.norm),
            ),
        ]
        self._blocks = [(_weights(b), [f"blocks.{i}.{name}" for name in b.state]) for i, b in enumerate(model.blocks)]
        self._last = [*_norm(model.norm), *_matrix(head), *((head.low, head.high) if head.bounded else ())]

    @property
    def usable(self) -> bool:
        """Whether nobody watches the modules."""
        return not any(self._hooks)

    def __call__(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Advance by one real step, `rtg [B, 1]`, `states [B, state_dim]`; return predictions `[B, A]` and `state`."""
        predictions = states.new_empty(len(states), self._shape.actions)
        tensors = [predictions, rtg.contiguous(), states.contiguous(), state["begun"], state["action"].contiguous()]
        tensors += self._first
        for weights, names in self._blocks:
            tensors += weights
            tensors += [state[name] for name in names]
        tensors += self._last
        pointers = (ctypes.c_void_p * len(tensors))(*[x.data_ptr() for x in tensors])
        self._shape.rows = len(states)
        self._function(pointers, ctypes.byref(self._shape), self._neuron, torch.get_num_threads())
        state["begun"].fill_(True)
        return predictions, state


def fused_step(model: nn.Module) -> FusedStep | None:
    """Return the fused step of a streaming model on a CPU with a C++ compiler, else None."""
    if not isinstance(model, StreamTransformer):
        return None
    weight = model.head.weight
    if weight.device.type != "cpu" or weight.dtype not in SUFFIX or backend_for("cpu") != "cpp":
        return None
    return FusedStep(model)


def _weights(block: Any) -> list[Tensor]:
    decay = block.attend
    return [
        *(*_norm(block.lif_in.norm), *_matrix(block.qkv), torch.sigmoid(decay.raw), torch.sigmoid(-decay.raw)),
        *(*_norm(block.lif_out.norm), *_matrix(block.out), *_norm(block.lif_mlp.norm), *_matrix(block.mlp_in)),
        *_matrix(block.mlp_out),
    ]


def _norm(norm: Any) -> list[Tensor]:
    return [norm.weight, norm.bias]


def _matrix(linear: Any) -> list[Tensor]:
    return [linear.weight.detach().t().contiguous(), linear.bias]
