"""Context of a policy with a streaming model: the state of the model, which has a fixed size.

N episodes, S state size, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.evaluation.decide import Decide
from snn_dt.models.interface import State, StreamingModel
from snn_dt.snn.states import keep_rows, reset_rows


class StreamContext:
    """The state of N running episodes, with the methods of `Context`.

    Attributes:
        state: tensors `[N, ...]` by name; see `StreamTransformer`.
        age: `[N]` int64. Decisions since the start of each episode.
    """

    def __init__(self, model: StreamingModel, n: int, device: torch.device) -> None:
        self.state: State = model.rest(n)
        self.age = torch.zeros(n, dtype=torch.int64, device=device)

    def decide(self, decide: Decide, rtg: Tensor, states: Tensor) -> Tensor:
        """Advance by one step with `rtg [N]` (scaled) and `states [N, S]`; return predictions `[N, A]`."""
        predictions: Tensor
        predictions, self.state = decide(rtg.unsqueeze(-1), states, self.state)  # rtg [N, 1]
        self.age += 1
        return predictions

    def set_action(self, actions: Tensor) -> None:
        """Record the action `[N(, A)]` of this step. It is an input of the next step."""
        self.state["action"] = actions

    def counted(self) -> tuple[Tensor, Tensor]:
        """Return the arguments of `DecisionMeter.count`: a mask `[N, 1]` of one step and the age of each episode."""
        return torch.ones(len(self.age), 1, dtype=torch.bool, device=self.age.device), self.age

    def restart(self, rows: Tensor) -> None:
        """Begin new episodes in `rows` (int64 indices)."""
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
        """Restore the result of `state_dict`."""
        state = {name: x.to(self.age.device, copy=True) for name, x in values.items()}
        self.age, self.state = state.pop("age"), state
