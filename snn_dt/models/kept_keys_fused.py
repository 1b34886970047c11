"""Run a decision of a model with an attention span as one call into `snn_dt/snn/kept_keys.cpp` on a CPU.

The kernel supports the blocks of `last_token.py` and gives the results of the modules to rounding. It also computes a
linear embedding, learned positions and a linear head. Others are run as modules.

B rows, P new tokens, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.embedding import TokenEmbedding
from snn_dt.models.fused_checks import pair
from snn_dt.models.interface import State
from snn_dt.models.last_token import pack_blocks
from snn_dt.models.layers import ActionHead
from snn_dt.models.positions import LearnedPositions
from snn_dt.snn import cpp, cpp_decision


class FusedDecision:
    """Compute `DecisionTransformer.step` with the kernel. The state is changed in place.

    The kernel reads a packed copy of the weights of the blocks. `watch` tells when it must be made anew.
    """

    def __init__(self, model: DecisionTransformer) -> None:
        self._model, ring = model, model.ring
        self.watch = cpp.Watch([x.detach() for x in (*model.blocks.parameters(), *model.blocks.buffers())])
        self._stack = pack_blocks(list(model.blocks))
        self._ring = cpp_decision.Ring(ring.span, ring.per_step, ring.capacity)
        self._types = torch.float32, torch.float32, torch.int64 if model.discrete else torch.float32
        self._names = [f"blocks.{i}.{part}" for i in range(len(model.blocks)) for part in ("keys", "values")]
        self._whole: cpp_decision.Whole | None = None
        if _knows_ends(model):
            width = model.norm.normalized_shape[0]
            self._whole = cpp_decision.Whole(len(self._names), self._ring, _ends(model), self._stack, width)

    def __call__(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Return predictions `[B, A]` and `state`. `rtg` is `[B, 1]`; `states` is `[B, state_dim]`."""
        model = self._model
        now, rings = state["timestep"], [state[name] for name in self._names]
        types = rtg.dtype, states.dtype, state["action"].dtype
        if self._whole is not None and len(states) and types == self._types:
            inputs = rtg.contiguous(), states.contiguous(), state["action"].contiguous()
            return self._whole(inputs, now, rings), state
        x = model.embedding(*model.new_inputs(rtg, states, state))  # [B, P, D]
        if x.dtype != torch.float32 or x.numel() == 0:  # the kernel takes neither autocast nor an empty batch
            return model.step(rtg, states, state)
        last = cpp_decision.decide(x.contiguous(), now, rings, self._ring, self._stack)  # [B, D]
        now += 1
        # The head of populations takes tokens: [B, 1, D] -> [B, 1, A] -> [B, A]
        prediction: Tensor = model.head(model.norm(last.unsqueeze(1)))
        return prediction[:, 0], state


def _knows_ends(model: DecisionTransformer) -> bool:
    """Return whether the kernel computes the embedding and the head of `model`."""
    embedding, head = model.embedding, model.head
    modules: list[Any] = [embedding.rtg, embedding.state, embedding.action, embedding.norm, model.norm, head]
    kinds = [
        nn.Linear,
        nn.Linear,
        nn.Embedding if model.discrete else nn.Linear,
        nn.LayerNorm,
        nn.LayerNorm,
        ActionHead,
    ]
    own = [embedding, *modules, *([] if embedding.positions is None else [embedding.positions])]
    return (
        type(embedding) is TokenEmbedding
        and embedding.goal is None
        and [type(m) for m in modules] == kinds
        and type(embedding.positions) in (type(None), LearnedPositions)
        and not any("forward" in vars(m) for m in own)
        and not any(getattr(m, "bias", 0) is None for m in modules)
        and getattr(head, "plastic", None) is None
        and getattr(embedding.action, "max_norm", None) is None
        and embedding.norm.eps == model.norm.eps
    )


def _ends(model: DecisionTransformer) -> cpp_decision.Ends:
    """Collect the sizes and addresses of the embedding and the head."""
    embedding, head = model.embedding, model.head
    table: Any = embedding.positions
    assert isinstance(head, ActionHead)
    low, high = embedding.rtg_range or (-float("inf"), float("inf"))
    action = [embedding.action.weight, None if model.discrete else embedding.action.bias]
    places = [None, None] if table is None else [table.weight, table.last]
    bounds = [head.low, head.high] if head.bounded else [None, None]
    tensors: list[Any] = [*pair(embedding.rtg), *pair(embedding.state), *action, places[0], *pair(embedding.norm)]
    tensors += [*pair(model.norm), *pair(head), *bounds, places[1]]
    sizes = (
        embedding.state.in_features,
        model.action_dim,
        model.discrete,
        head.bounded,
        0 if table is None else table.num_embeddings,
    )
    pointers = [None if x is None else x.data_ptr() for x in tensors]
    return cpp_decision.Ends(*sizes, low, high, model.norm.eps, *pointers)
