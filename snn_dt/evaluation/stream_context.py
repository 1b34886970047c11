"""What a policy of a streaming model remembers: the model's state, of one size however old an episode is.

N episodes, S state size, A action size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from snn_dt.models.stream_fused import fused_step
from snn_dt.snn.states import keep_rows, reset_rows


class StreamContext:
    """The state of N running episodes; the same methods as `Context`.

    Attributes:
        state: tensors `[N, ...]` by name, see `StreamTransformer`.
        age: `[N]` int64, decisions since the beginning of each episode.
    """

    def __init__(self, model: Any, n: int, device: torch.device) -> None:
        self.state: dict[str, Tensor] = model.rest(n)
        self._fused = fused_step(model)
        self.age = torch.zeros(n, dtype=torch.int64, device=device)

    def decide(self, model: Any, rtg: Tensor, states: Tensor) -> Tensor:
        """Advance by one step with `rtg [N]` (scaled) and `states [N, S]`; return predictions `[N, A]`."""
        fused = self._fused
        step = fused if fused is not None and fused.model is model else model.step
        predictions: Tensor
        predictions, self.state = step(rtg.unsqueeze(-1), states, self.state)
        self.age += 1
        return predictions

    def set_action(self, actions: Tensor) -> None:
        """Record the action `[N(, A)]` decided on: the next step is told."""
        self.state["action"] = actions

    def counted(self) -> tuple[Tensor, Tensor]:
        """Return what `DecisionMeter.count` asks for: a mask `[N, 1]` of the one step, and how old episodes are."""
        return torch.ones(len(self.age), 1, dtype=torch.bool, device=self.age.device), self.age

    def restart(self, rows: Tensor) -> None:
        """Forget the episodes of `rows` (int64 indices): new ones begin there."""
        over = torch.zeros_like(self.age, dtype=torch.bool)
        over[rows] = True
        self.state = reset_rows(self.state, over)
        self.age[rows] = 0

    def keep(self, rows: Tensor) -> None:
        """Drop all episodes but those of `rows`."""
        self.state, self.age = keep_rows(self.state, rows), self.age[rows]

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors."""
        return {name: x.clone() for name, x in {"age": self.age, **self.state}.items()}

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        """Take over what `state_dict` returned."""
        state = {name: x.to(self.age.device, copy=True) for name, x in values.items()}
        self.age, self.state = state.pop("age"), state
