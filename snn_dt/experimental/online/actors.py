"""Policies that act on a sequence: observations in, actions in [-1, 1] and the state that the next call needs out.

T steps, B sequences, O observation columns (the first ones of what is handed in), A action columns, [T, B, ...].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from snn_dt.experimental.online.heterogeneous_lif import HeterogeneousLIF
from snn_dt.snn.parameters import LIFState

State = tuple[LIFState, ...]


class SpikingActor(nn.Module):
    """Linear, LIF, Linear, LIF, Linear, tanh: one simulation step per control step, the membranes carried on.

    The first linear layer injects current, the last one decodes the spikes of its step. `forward(observations
    [T, B, O], state) -> (actions [T, B, A], state)`; `state=None` is rest. Source: the actor of arXiv 2510.24461,
    18-256-128-4.
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int], surrogate_slope: float) -> None:
        super().__init__()
        self.obs_dim = obs_dim
        sizes = [obs_dim, *hidden]
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.neurons = nn.ModuleList(HeterogeneousLIF(n, surrogate_slope) for n in hidden)
        self.decoder = nn.Linear(sizes[-1], action_dim)

    def forward(self, observations: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Act on T steps in a row, from `state` or from rest."""
        x, new = observations[..., : self.obs_dim], []
        for i, (linear, neurons) in enumerate(zip(self.linears, self.neurons, strict=True)):
            x, after = neurons(linear(x), None if state is None else state[i])
            new.append(after)
        return torch.tanh(self.decoder(x)), tuple(new)


class MLPActor(nn.Module):
    """A stateless policy with tanh throughout: the guide (146-64-64-4 in the publication).

    Before it has learned anything its action is close to `trim`.
    """

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int], trim: float = 0.0) -> None:
        super().__init__()
        self.obs_dim = obs_dim
        sizes = [obs_dim, *hidden, action_dim]
        layers = [(nn.Linear(a, b), nn.Tanh()) for a, b in pairwise(sizes)]
        self.layers = nn.Sequential(*(part for pair in layers for part in pair))
        with torch.no_grad():
            layers[-1][0].weight.mul_(0.1)
            layers[-1][0].bias.fill_(math.atanh(trim))

    def forward(self, observations: Tensor, state: Any = ()) -> tuple[Tensor, State]:
        """Act on every step for itself."""
        return self.layers(observations[..., : self.obs_dim]), ()


def restart(state: State | None, rows: Tensor) -> State | None:
    """Put the rows `rows` (bool [B]) of a state to rest."""
    return state and tuple(LIFState(part.v_mem.masked_fill(rows[:, None], 0.0)) for part in state)
