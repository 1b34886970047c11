"""Two judges of an action, dense and stateless: they see the whole, privileged observation.

[..., P] observations and [..., A] actions give [..., ] values.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class TwinCritic(nn.Module):
    """Q_1 and Q_2, each an MLP with ReLU; TD3 bootstraps from the smaller (Fujimoto et al. 2018)."""

    def __init__(self, obs_dim: int, action_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.judges = nn.ModuleList(_mlp([obs_dim + action_dim, *hidden, 1]) for _ in range(2))

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q_1 and Q_2."""
        x = torch.cat([observations, actions], dim=-1)
        first, second = (judge(x).squeeze(-1) for judge in self.judges)
        return first, second

    def first(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Return Q_1, which the actor climbs."""
        return self.judges[0](torch.cat([observations, actions], dim=-1)).squeeze(-1)


def _mlp(sizes: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
