"""Run a decision of a model with an attention span as one call into `snn_dt/snn/kept_keys.cpp` on a CPU.

The kernel supports the blocks of `last_token.py` and gives the results of the modules to rounding. Embedding and head
are run as modules.

B rows, P new tokens, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.models.decision_transformer import DecisionTransformer
from snn_dt.models.interface import State
from snn_dt.models.last_token import pack_blocks
from snn_dt.snn import cpp


class FusedDecision:
    """Compute `DecisionTransformer.step` with the kernel. The state is changed in place.

    The kernel reads a packed copy of the weights of the blocks. `watch` tells when it must be made anew.
    """

    def __init__(self, model: DecisionTransformer) -> None:
        self._model, ring = model, model.ring
        self.watch = cpp.Watch([x.detach() for x in (*model.blocks.parameters(), *model.blocks.buffers())])
        self._stack = pack_blocks(list(model.blocks))
        self._ring = cpp.Ring(ring.span, ring.per_step, ring.capacity)
        self._names = [f"blocks.{i}.{part}" for i in range(len(model.blocks)) for part in ("keys", "values")]

    def __call__(self, rtg: Tensor, states: Tensor, state: State) -> tuple[Tensor, State]:
        """Return predictions `[B, A]` and `state`. `rtg` is `[B, 1]`; `states` is `[B, state_dim]`."""
        model = self._model
        x = model.embedding(*model.new_inputs(rtg, states, state))  # [B, P, D]
        if x.dtype != torch.float32 or x.numel() == 0:  # the kernel takes neither autocast nor an empty batch
            return model.step(rtg, states, state)
        now, rings = state["timestep"], [state[name] for name in self._names]
        last = cpp.decide(x.contiguous(), now, rings, self._ring, self._stack)  # [B, D]
        now += 1
        # The head of populations takes tokens: [B, 1, D] -> [B, 1, A] -> [B, A]
        prediction: Tensor = model.head(model.norm(last.unsqueeze(1)))
        return prediction[:, 0], state
