"""What every learner of `snn-dt online` offers to the loop.

| `learn.method` | class |
|---|---|
| `replay` (TD3, TD3+BC, behaviour cloning), `dagger` | `snn_dt.experimental.online.replay.Replay` |
| `ppo` | `snn_dt.experimental.online.recurrent_ppo.RecurrentPPO` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from snn_dt.experimental.online.actor_critic import SpikingActor
from snn_dt.snn.probe import Probe


@dataclass(frozen=True)
class Moment:
    """An iteration of a run: its number, its share of the run in [0, 1), and its generators, seeded by both seeds."""

    iteration: int
    share: float
    rng: np.random.Generator
    generator: torch.Generator

    @staticmethod
    def firing(actor: SpikingActor, observations: Tensor) -> dict[str, float]:
        """Return the mean firing rate of the actor on observations [T, B, P]."""
        with torch.no_grad(), Probe(actor) as probe:
            actor(observations)
            rates = probe.firing_rates({}).values()
        return {"firing_rate": float(np.mean(list(rates)))}


class Method(Protocol):
    """One way to learn. Its state is complete between two iterations: each iteration begins new flights."""

    env_steps: int

    @property
    def actor(self) -> SpikingActor:
        """The network that learns."""

    def set_slope(self, slope: float) -> None:
        """Set the slope of the surrogate gradient."""

    def iterate(self, moment: Moment) -> dict[str, float]:
        """Gather flights and update the actor; return metrics."""

    def scored(self, score: float | None) -> None:
        """End an iteration. `score` is the return of its evaluation or None."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything the next iteration depends on."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
