"""Context of a policy with a window: the last K steps of N running episodes, on the policy's device.

The buffers are mirrored rings. Step i of the rollout is written at `i mod K` and at `i mod K + K`. The last K steps
are therefore contiguous, and a window is a view.

N episodes, K context length, S state size (of an image that of its features), A action dimensions or number of discrete
actions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from snn_dt.evaluation.decide import Decide

TENSORS = ("rtg", "states", "actions", "timesteps", "mask", "age")
COUNTERS = ("step", "length")


class Context:
    """Ring buffers `rtg [N, 2K, 1]`, `states [N, 2K, S]`, `actions [N, 2K(, A)]`, `timesteps`, `mask [N, 2K]`."""

    def __init__(
        self, n: int, context_length: int, state_dim: int, action_dim: int, discrete: bool, device: torch.device
    ) -> None:
        k2 = 2 * context_length
        self.context_length = context_length
        self.rtg = torch.zeros(n, k2, 1, device=device)
        self.states = torch.zeros(n, k2, state_dim, device=device)
        if discrete:
            self.actions = torch.zeros(n, k2, dtype=torch.int64, device=device)
        else:
            self.actions = torch.zeros(n, k2, action_dim, device=device)
        self.timesteps = torch.zeros(n, k2, dtype=torch.int64, device=device)
        self.mask = torch.zeros(n, k2, dtype=torch.bool, device=device)
        self.age = torch.zeros(n, dtype=torch.int64, device=device)
        self.step = -1  # index of the current step of the rollout
        self.length = 0  # steps in the window; earlier slots are empty in all episodes

    def decide(self, decide: Decide, rtg: Tensor, states: Tensor) -> Tensor:
        """Begin a step with `rtg [N]` (scaled) and `states [N, S]`; return its predictions `[N, A]`."""
        self.push(rtg, states)
        predictions: Tensor = decide(*self.window())
        return predictions

    def push(self, rtg: Tensor, states: Tensor) -> None:
        """Begin a step with `rtg [N]` (scaled) and `states [N, S]`; its action is 0 until `set_action`."""
        self.step += 1
        self.length = min(self.length + 1, self.context_length)
        for i in self._slots():
            self.rtg[:, i, 0] = rtg
            self.states[:, i] = states
            # The slot holds an older action until `set_action`.
            self.actions[:, i] = 0
            self.timesteps[:, i] = self.age
            self.mask[:, i] = True
        self.age += 1

    def set_action(self, actions: Tensor) -> None:
        """Record the action `[N(, A)]` of the current step."""
        for i in self._slots():
            self.actions[:, i] = actions

    def window(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return `(rtg, states, actions, timesteps, attention_mask)` of the last steps, `[N, <= K, ...]`."""
        # One past the second copy of the current step.
        end = self.step % self.context_length + self.context_length + 1
        view = slice(end - self.length, end)
        return (
            self.rtg[:, view],
            self.states[:, view],
            self.actions[:, view],
            self.timesteps[:, view],
            self.mask[:, view],
        )

    def counted(self) -> tuple[Tensor, Tensor]:
        """Return the arguments of `DecisionMeter.count`: the mask of the window and the age of each episode."""
        return self.window()[-1], self.age

    def restart(self, rows: Tensor) -> None:
        """Begin new episodes in `rows` (int64 indices)."""
        self.mask[rows] = False
        self.timesteps[rows] = 0
        self.age[rows] = 0

    def keep(self, rows: Tensor) -> None:
        """Drop all episodes but those of `rows`."""
        for name in TENSORS:
            setattr(self, name, getattr(self, name)[rows])
        # Without the oldest episodes the window may be shorter.
        self.length = min(self.length, int(self.age.max())) if len(self.age) else 0

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors, and the counters as tensors."""
        counters = {name: torch.tensor(getattr(self, name)) for name in COUNTERS}
        return {name: getattr(self, name).clone() for name in TENSORS} | counters

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        """Restore the result of `state_dict`."""
        for name in TENSORS:
            # Copies, since later steps write in place.
            setattr(self, name, values[name].to(self.age.device, copy=True))
        for name in COUNTERS:
            setattr(self, name, int(values[name]))

    def _slots(self) -> tuple[int, int]:
        i = self.step % self.context_length
        return i, i + self.context_length
