"""The blocks of a model as one call, for the last token only: a decision without the cost of a call per layer.

`blocks.cpp` computes what the modules compute, to rounding, from weights packed once: threads meet once per block,
spikes that are not there are not added, and the last block works on one token. It knows the dense block and SNN-DT's
with rates, softmax attention and no phase gate, in float32 on a CPU with a C++ compiler. Everything else, training, and
a model that somebody listens to through hooks (energy, firing rates) take the modules.

B sequences, L tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.attention import DenseSelfAttention, SpikingSelfAttention
from snn_dt.models.blocks import Block
from snn_dt.models.hooks import Watch, alike, biased, only
from snn_dt.models.layers import Chain, SpikeLinear, TimeMean
from snn_dt.models.mixing import SoftmaxAttention, SpikeAttention
from snn_dt.models.routing import DendriticRouting
from snn_dt.snn import LIF, RateLIF, cpp
from snn_dt.snn.backends import backend_for
from snn_dt.snn.parameters import LIFParameters

Weights = list[Tensor | None]
DENSE = (
    Block, DenseSelfAttention, SoftmaxAttention, nn.Sequential, nn.LayerNorm, nn.Linear, nn.ReLU, nn.Dropout, TimeMean,
)  # fmt: skip
SPIKING = (
    Block, SpikingSelfAttention, SpikeAttention, Chain, SpikeLinear, RateLIF, LIF, nn.LayerNorm, DendriticRouting,
    nn.Sequential, nn.Linear, nn.Sigmoid, nn.Identity, nn.Dropout, TimeMean,
)  # fmt: skip
"""Types of the modules of the two blocks that the kernel knows."""


class LastToken:
    """`(model, x [B, L, D], real [B, L]) -> [B, 1, D]`, or None where the modules have to do it.

    Packs the weights on the first call, and again whenever one is another than it was (`Watch`). A copy of it, as of a
    running policy's model, begins anew.
    """

    def __init__(self) -> None:
        self._watch: Watch | None = None
        self._known = False
        self._stack: cpp.Stack | None = None

    def __reduce__(self) -> tuple[type[LastToken], tuple[()]]:
        return LastToken, ()

    def __call__(self, model: nn.Module, x: Tensor, real: Tensor) -> Tensor | None:
        """Return the last token after the blocks of `model`; what is in `x` is lost."""
        if torch.is_grad_enabled() or model.training or x.dtype != torch.float32 or torch.compiler.is_compiling():
            return None
        if backend_for(x.device.type) != "cpp" or x.numel() == 0:
            return None
        if self._watch is None or self._watch.moved():
            self._watch, self._known, self._stack = Watch(model.blocks), _known(list(model.blocks)), None
        if not self._known or self._watch.watched:
            return None
        if self._watch.written() or self._stack is None:
            self._stack = _stack(list(model.blocks))
        return cpp.last_token(x.contiguous(), real.contiguous(), self._stack)


def _known(blocks: list[Any]) -> bool:
    """Tell whether the kernel computes what these blocks do: their types, and what it takes to be the same in all."""
    if not all(biased(block) and (_is_dense(block) or _is_spiking(block)) for block in blocks):
        return False
    neurons = {
        (type(n.norm) is nn.LayerNorm, n._fused, n.sim_steps, n.constants)
        for block in blocks
        for n in block.modules()
        if isinstance(n, RateLIF)
    }
    mixes = {(m.n_heads, m.scale, getattr(m, "sim_steps", 1)) for m in (block.attention.attend for block in blocks)}
    eps = {m.eps for block in blocks for m in block.modules() if isinstance(m, nn.LayerNorm)}
    shapes = {tuple(p.shape for p in block.parameters()) for block in blocks}
    one_of_each = max(len(neurons), len(mixes), len(eps), len(shapes)) == 1
    tensors = [p for block in blocks for p in block.parameters()]
    return one_of_each and all(n[0] and n[1] for n in neurons) and alike(*tensors) and tensors[0].dtype == torch.float32


def _stack(blocks: list[Any]) -> cpp.Stack:
    """Pack the weights of blocks that the kernel knows."""
    weights = [_dense(block) if _is_dense(block) else _spiking(block) for block in blocks]
    neuron = next((m for m in blocks[0].modules() if isinstance(m, RateLIF)), None)
    attend = blocks[0].attention.attend
    return cpp.Stack(
        [w for block in weights for w in block],
        LIFParameters() if neuron is None else neuron.constants,
        hidden=next(m.out_features for m in blocks[0].mlp if isinstance(m, nn.Linear)),
        heads=attend.n_heads,
        layers=len(blocks),
        sim_steps=1 if neuron is None else neuron.sim_steps,
        eps=next(m.eps for m in blocks[0].modules() if isinstance(m, nn.LayerNorm)),
        scale=attend.scale,
        gain=float(getattr(attend, "sim_steps", 1)),
    )


def _is_dense(block: Any) -> bool:
    types = [nn.LayerNorm, nn.Linear, nn.ReLU, nn.Linear]
    return only(block, *DENSE) and [type(m) for m in block.mlp] == types


def _is_spiking(block: Any) -> bool:
    if not only(block, *SPIKING):
        return False
    a, mlp = block.attention, [type(m) for m in block.mlp if type(m) not in (nn.Identity, TimeMean)]
    projections = all([type(m) for m in chain] == [SpikeLinear, RateLIF] for chain in (a.query, a.key, a.value))
    routed = type(a.route) in (nn.Identity, DendriticRouting)
    return projections and routed and mlp == [RateLIF, SpikeLinear, RateLIF, SpikeLinear]


def _dense(block: Any) -> Weights:
    attention, mlp = block.attention, list(block.mlp)
    none: Weights = [None, None]
    return [
        *_pair(attention.norm),
        *_packed(attention.query, dense=True),
        *_packed(attention.key_value, dense=True),
        *none * 5,
        *_packed(attention.out, dense=True),
        *_pair(mlp[0]),
        *_packed(mlp[1], dense=True),
        *none,
        *_packed(mlp[3], dense=True),
    ]


def _spiking(block: Any) -> Weights:
    a, mlp = block.attention, [m for m in block.mlp if not isinstance(m, nn.Identity | TimeMean)]
    (query, q_lif), (key, k_lif), (value, v_lif) = a.query, a.key, a.value
    neurons = [a.lif_in, q_lif, k_lif, v_lif, a.lif_out, mlp[0], mlp[2]]
    norm_in, q_norm, k_norm, v_norm, out_norm, mlp_norm, hidden_norm = (_pair(n.norm) for n in neurons)
    return [
        *norm_in,
        *_packed(query),
        *_packed(key, value),
        *q_norm,
        *k_norm,
        *v_norm,
        *(_pair(a.route.gate[0]) if isinstance(a.route, DendriticRouting) else [None, None]),
        *out_norm,
        *_packed(a.out),
        *mlp_norm,
        *_packed(mlp[1]),
        *hidden_norm,
        *_packed(mlp[3]),
    ]


def _pair(layer: nn.LayerNorm | nn.Linear) -> Weights:
    return [layer.weight.detach(), layer.bias.detach()]


def _packed(*linears: nn.Linear, dense: bool = False) -> Weights:
    """Return the packed weight and the bias of linear layers side by side."""
    weight, bias = (torch.cat([getattr(m, name).detach() for m in linears]) for name in ("weight", "bias"))
    return [cpp.pack_weight(weight, dense), bias]
