"""Compute the last token of all blocks in one C++ call. A decision then needs no call per layer.

`snn_dt/snn/blocks.cpp` gives the results of the modules to rounding. Its threads synchronise once per block. It skips
products with absent spikes and its last block computes only one token. It supports two blocks in float32 on a CPU: the
dense block and the SNN-DT block with rate coding, softmax attention and no phase gate. Embedding and head are run as
modules.

B sequences, K steps, L tokens, D width, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.attention import DendriticRouting, DenseSelfAttention, SpikingSelfAttention
from snn_dt.models.blocks import Block
from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.fused_checks import biased, float32, neurons, only, pair
from snn_dt.models.layers import MaskedSequential, SpikeLinear, TimeMean
from snn_dt.models.mixing import SoftmaxAttention, SpikeAttention
from snn_dt.snn import LIF, GoalNorm, RateLIF, cpp
from snn_dt.snn.backends import backend_for
from snn_dt.snn.parameters import LIFParameters

Weights = list[Tensor | None]
DENSE_TYPES = (
    Block, DenseSelfAttention, SoftmaxAttention, nn.Sequential, nn.LayerNorm, GoalNorm, nn.Linear, nn.ReLU, nn.Dropout,
    TimeMean,
)  # fmt: skip
SPIKING_TYPES = (
    Block, SpikingSelfAttention, SpikeAttention, MaskedSequential, SpikeLinear, RateLIF, LIF, nn.LayerNorm,
    GoalNorm, DendriticRouting, nn.Sequential, nn.Linear, nn.Sigmoid, nn.Identity, nn.Dropout, TimeMean,
)  # fmt: skip
"""Module types of the two blocks that the kernel supports."""


class FusedWindow:
    """Predict the last action of a window with the kernel.

    The call is `(rtg, states, actions, timesteps, attention_mask) -> [B, A]`. The kernel reads a packed copy of the
    block weights. The copy is renewed when the checksum of the weights has changed, so every write into a weight is
    noticed. A replaced module, parameter or constant requires a new `FusedWindow`.
    """

    def __init__(self, model: DecisionTransformer) -> None:
        self._model = model
        self._checksum = cpp.Checksum([*model.blocks.parameters(), *model.blocks.buffers()])
        self._sums = b""
        self._stack: cpp.Stack | None = None

    def __call__(self, *window: Tensor) -> Tensor:
        """Return predictions `[B, A]` of the last step."""
        model, attention_mask = self._model, window[-1]
        x = model.dropout(model.embedding(*window))  # [B, L, D]
        if x.dtype != torch.float32 or x.numel() == 0:  # the kernel takes neither autocast nor an empty batch
            prediction: Tensor = model(*window, last_only=True)
            return prediction[:, -1]  # [B, 1, A] -> [B, A]
        sums = self._checksum()
        if self._stack is None or sums != self._sums:
            self._sums, self._stack = sums, pack_blocks(list(model.blocks))
        last = cpp.last_token(x.contiguous(), model.token_mask(attention_mask).contiguous(), self._stack)  # [B, 1, D]
        prediction = model.head(model.norm(last))  # [B, 1, A]
        return prediction[:, -1]


def knows_window(model: nn.Module) -> bool:
    """Return whether `FusedWindow` computes the same as the modules of `model`."""
    return knows_blocks(model) and getattr(model, "attention_span", None) is None


def knows_blocks(model: nn.Module) -> bool:
    """Return whether the kernels compute the same as the blocks of `model`."""
    if type(model) is not DecisionTransformer or "forward" in vars(model) or model.training:
        return False
    if model.phase_gate is not None or backend_for(model.norm.weight.device.type) != "cpp":
        return False
    return float32(model) and _known(list(model.blocks))


def _known(blocks: list[Any]) -> bool:
    """Return whether the kernel supports these blocks and they share the constants that it takes only once."""
    if not all(biased(block) and (_is_dense(block) or _is_spiking(block)) for block in blocks):
        return False
    # Each of these sets must have one element at most.
    rates = {
        (type(n.norm) in (nn.LayerNorm, GoalNorm), n._fused, n.sim_steps, n.constants)
        for block in blocks
        for n in neurons(block)
        if isinstance(n, RateLIF)
    }
    mixes = {(m.n_heads, m.scale, getattr(m, "sim_steps", 1)) for m in (block.attention.attend for block in blocks)}
    eps = {m.eps for block in blocks for m in block.modules() if isinstance(m, nn.LayerNorm)}
    shapes = {tuple(p.shape for p in block.parameters()) for block in blocks}
    one_of_each = max(len(rates), len(mixes), len(eps), len(shapes)) == 1
    return one_of_each and all(n[0] and n[1] for n in rates)


def pack_blocks(blocks: list[Any]) -> cpp.Stack:
    """Pack the weights of blocks that the kernel supports."""
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
    if not only(block, *DENSE_TYPES):
        return False
    norm, *rest = block.mlp
    return isinstance(norm, nn.LayerNorm) and [type(m) for m in rest] == [nn.Linear, nn.ReLU, nn.Linear]


def _is_spiking(block: Any) -> bool:
    if not only(block, *SPIKING_TYPES):
        return False
    a, mlp = block.attention, [type(m) for m in block.mlp if type(m) not in (nn.Identity, TimeMean)]
    # Every projection must be one linear layer and its neurons, without further norms.
    projections = all([type(m) for m in chain] == [SpikeLinear, RateLIF] for chain in (a.query, a.key, a.value))
    routed = type(a.route) in (nn.Identity, DendriticRouting)
    return projections and routed and mlp == [RateLIF, SpikeLinear, RateLIF, SpikeLinear]


def _dense(block: Any) -> Weights:
    attention, mlp = block.attention, list(block.mlp)
    none: Weights = [None, None]  # a pair that only the spiking block has
    return [
        *pair(attention.norm),
        *_packed(attention.query, dense=True),
        *_packed(attention.key_value, dense=True),
        *none * 5,
        *_packed(attention.out, dense=True),
        *pair(mlp[0]),
        *_packed(mlp[1], dense=True),
        *none,
        *_packed(mlp[3], dense=True),
    ]


def _spiking(block: Any) -> Weights:
    a, mlp = block.attention, [m for m in block.mlp if not isinstance(m, nn.Identity | TimeMean)]
    (query, q_lif), (key, k_lif), (value, v_lif) = a.query, a.key, a.value
    lifs = [a.lif_in, q_lif, k_lif, v_lif, a.lif_out, mlp[0], mlp[2]]
    norm_in, q_norm, k_norm, v_norm, out_norm, mlp_norm, hidden_norm = (pair(n.norm) for n in lifs)
    return [
        *norm_in,
        *_packed(query),
        *_packed(key, value),
        *q_norm,
        *k_norm,
        *v_norm,
        *(pair(a.route.gate[0]) if isinstance(a.route, DendriticRouting) else [None, None]),
        *out_norm,
        *_packed(a.out),
        *mlp_norm,
        *_packed(mlp[1]),
        *hidden_norm,
        *_packed(mlp[3]),
    ]


def _packed(*linears: nn.Linear, dense: bool = False) -> Weights:
    """Return the packed weight and the bias of linear layers, concatenated along their outputs."""
    # weights [O, I], biases [O]; O sums over the layers
    weight, bias = (torch.cat([getattr(m, name).detach() for m in linears]) for name in ("weight", "bias"))
    return [cpp.pack_weight(weight, dense), bias]
