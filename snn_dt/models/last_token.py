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
from snn_dt.models.hooks import hook_tables
from snn_dt.models.mixing import SoftmaxAttention, SpikeAttention
from snn_dt.models.routing import DendriticRouting
from snn_dt.snn import RateLIF, cpp
from snn_dt.snn.backends import backend_for
from snn_dt.snn.parameters import LIFParameters

Weights = list[Tensor | None]


class LastToken:
    """`(model, x [B, L, D], real [B, L]) -> [B, 1, D]`, or None where the modules have to do it.

    Packs the weights on the first call, and again whenever one was written to or moved.
    """

    def __init__(self) -> None:
        self._parameters: list[nn.Parameter] = []
        self._hooks: list[Any] = []
        self._key: list[tuple[int, int]] = []
        self._stack: cpp.Stack | None = None

    def __call__(self, model: nn.Module, x: Tensor, real: Tensor) -> Tensor | None:
        """Return the last token after the blocks of `model`; what is in `x` is lost."""
        if torch.is_grad_enabled() or model.training or x.dtype != torch.float32 or torch.compiler.is_compiling():
            return None
        if backend_for(x.device.type) != "cpp" or x.numel() == 0:
            return None
        if not self._parameters:
            self._parameters = list(model.blocks.parameters())
            self._hooks = hook_tables(model)
        if any(self._hooks):
            return None
        key = [(p.data_ptr(), p._version) for p in self._parameters]
        if key != self._key:
            self._key, self._stack = key, _stack(list(model.blocks))
        return None if self._stack is None else cpp.last_token(x.contiguous(), real.contiguous(), self._stack)


def _stack(blocks: list[Any]) -> cpp.Stack | None:
    """Pack the weights of blocks that the kernel knows."""
    weights = [_dense(block) or _spiking(block) for block in blocks]
    norms = [m for block in blocks for m in block.modules() if isinstance(m, nn.LayerNorm)]
    neurons = [m for block in blocks for m in block.modules() if isinstance(m, RateLIF)]
    alike = {(n.sim_steps, n.constants) for n in neurons}
    if None in weights or len({norm.eps for norm in norms}) != 1 or len(alike) > 1:
        return None
    if any(p.dtype != torch.float32 or p.device.type != "cpu" for block in blocks for p in block.parameters()):
        return None
    steps, constants = alike.pop() if alike else (1, LIFParameters())
    attend = blocks[0].attention.attend
    gain = attend.sim_steps if neurons else 1
    hidden = next(m.out_features for m in blocks[0].mlp if isinstance(m, nn.Linear))
    return cpp.Stack(
        [w for block in weights if block for w in block],
        constants,
        hidden=hidden,
        heads=attend.n_heads,
        layers=len(blocks),
        sim_steps=steps,
        eps=norms[0].eps,
        scale=attend.scale,
        gain=float(gain),
    )


def _dense(block: Any) -> Weights | None:
    attention, mlp = block.attention, list(block.mlp)
    kinds = [type(m) for m in mlp] == [nn.LayerNorm, nn.Linear, nn.ReLU, nn.Linear]
    if type(attention) is not DenseSelfAttention or type(attention.attend) is not SoftmaxAttention or not kinds:
        return None
    norm_in, query, key_value, out = attention.norm, attention.query, attention.key_value, attention.out
    none: Weights = [None, None]
    return [
        *_pair(norm_in),
        *_packed(query, dense=True),
        *_packed(key_value, dense=True),
        *none * 5,
        *_packed(out, dense=True),
        *_pair(mlp[0]),
        *_packed(mlp[1], dense=True),
        *none,
        *_packed(mlp[3], dense=True),
    ]


def _spiking(block: Any) -> Weights | None:
    a, mlp = block.attention, [m for m in block.mlp if not isinstance(m, nn.Identity)]
    if type(a) is not SpikingSelfAttention or type(a.attend) is not SpikeAttention:
        return None
    if type(a.route) not in (nn.Identity, DendriticRouting):
        return None
    if len(mlp) == 5:  # a mean over simulation time, of which a rate has none
        del mlp[3]
    (query, q_lif), (key, k_lif), (value, v_lif) = a.query, a.key, a.value
    neurons = [a.lif_in, q_lif, k_lif, v_lif, a.lif_out, mlp[0], mlp[2]]
    if not all(type(n) is RateLIF and n.norm is not None and n._fused for n in neurons):
        return None
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
