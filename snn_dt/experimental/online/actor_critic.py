"""Actor and critics: the spiking policy and twin critics.

Shapes: T steps; B sequences; P privileged observation columns; A action columns. A network reads the first O columns of
its input. Tensors are [T, B, ...]. Actions are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from snn_dt.experimental.online.heterogeneous_lif import HeterogeneousLIF
from snn_dt.snn.parameters import LIFState

State = tuple[LIFState, ...]


class Actor(Protocol):
    """The call signature of a policy; `state` is empty for a policy without memory."""

    def __call__(self, observations: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Return the actions [T, B, A] for observations [T, B, P] and the state for the next call."""


class SpikingActor(nn.Module):
    """Linear, LIF, Linear, LIF, Linear, tanh: one simulation step per control step.

    `forward(observations [T, B, O], state) -> (actions [T, B, A], state)`. `state=None` is rest. The membranes are
    carried from step to step. The first linear layer injects current. The last one decodes the spikes of the current
    step. Source: the actor of arXiv 2510.24461 with sizes 18-256-128-4.
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int], surrogate_slope: float) -> None:
        super().__init__()
        self.obs_dim = obs_dim
        sizes = [obs_dim, *hidden]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.neurons = nn.ModuleList(HeterogeneousLIF(n, surrogate_slope) for n in hidden)
        self.decoder = nn.Linear(sizes[-1], action_dim)

    def forward(self, observations: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Act on T consecutive steps from `state` or from rest."""
        x, new_state = observations[..., : self.obs_dim], []
        for i, (linear, neurons) in enumerate(zip(self.linears, self.neurons, strict=True)):
            x, after = neurons(linear(x), None if state is None else state[i])  # [T, B, hidden[i]]
            new_state.append(after)
        return torch.tanh(self.decoder(x)), tuple(new_state)


class TwinCritic(nn.Module):
    """Two critics Q_1 and Q_2. Each is a dense MLP with ReLU on the privileged observation and the action.

    `forward(observations [..., P], actions [..., A]) -> (Q_1 [...], Q_2 [...])`. TD3 bootstraps from the smaller one
    (Fujimoto et al. 2018).
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        # Saved runs hold the weights under the name `judges`.
        self.judges = nn.ModuleList(mlp([obs_dim + action_dim, *hidden, 1]) for _ in range(2))

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q_1 and Q_2."""
        x = torch.cat([observations, actions], dim=-1)  # [..., P + A]
        first, second = (judge(x).squeeze(-1) for judge in self.judges)
        return first, second

    def first(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return Q_1. The actor maximises it."""
        value: Tensor = self.judges[0](torch.cat([observations, actions], dim=-1))  # [..., 1]
        return value.squeeze(-1)


def mlp(sizes: list[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers with an activation between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])  # none after the output


def reset_rows(state: State | None, rows: Tensor) -> State | None:
    """Set the rows `rows` (bool [B]) of a state to rest."""
    return state and tuple(LIFState(part.v_mem.masked_fill(rows[:, None], 0.0)) for part in state)
