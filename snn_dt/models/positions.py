"""Position codes of the environment timestep. They map `timesteps [B, K]` to `[B, K, D]`, which is added to the tokens.

B batch, K steps, D width. Every code starts small relative to the tokens. With a position as large as a token the
policy ignores its target return. `model.positions` selects an entry of the table `POSITIONS`. `phase_positions.py` has
the code made of spikes.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.registry import POSITIONS, register_positions

INITIAL_SCALE = 0.02
NO_LIMIT = 2**62

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class TrainedTimesteps(nn.Module):
    """Base of the codes. Timesteps after the last trained one use the code of that one.

    Episodes of the training data are often shorter than the environment allows. Later rows of a table keep their random
    initial values. The model has not seen later phases of a sinusoid or generator either.

    Attributes:
        last: latest timestep seen in training. It is -1 before training and part of the state dict. A checkpoint of
            snn_dt 0.1.0 lacks it and has no limit.
    """

    last: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_buffer("last", torch.tensor(-1))

    def trained(self, timesteps: Tensor) -> Tensor:
        """Limit `timesteps [B, K]` to the trained range. In training record the latest timestep instead."""
        if self.training:
            self.last.copy_(torch.maximum(self.last, timesteps.max()))
            return timesteps
        # A tensor condition, because reading `last` would synchronise a GPU.
        return torch.where(self.last < 0, timesteps, timesteps.minimum(self.last))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        state_dict.setdefault(f"{prefix}last", torch.tensor(NO_LIMIT))
        super()._load_from_state_dict(state_dict, prefix, *others)


def note_longest_episode(model: nn.Module, steps: int) -> None:
    """Count the timesteps of the longest training episode as trained, whichever of them a process draws."""
    for module in model.modules():
        if isinstance(module, TrainedTimesteps):
            module.last.fill_(max(int(module.last), steps - 1))


class LearnedPositions(TrainedTimesteps, nn.Embedding):
    """A learned vector per timestep (Chen et al. 2021, Decision Transformer)."""

    def __init__(self, n_timesteps: int, d_model: int) -> None:
        super().__init__(n_timesteps, d_model)
        nn.init.normal_(self.weight, std=INITIAL_SCALE)

    def forward(self, timesteps: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Look up the vectors `[B, K] -> [B, K, D]`."""
        return nn.Embedding.forward(self, self.trained(timesteps.clamp(max=self.num_embeddings - 1)))


class SinusoidalPositions(TrainedTimesteps):
    """Sines and cosines `g sin(w_i t)`, `g cos(w_i t)` with a learned gain g (Vaswani et al. 2017).

    t is the environment timestep.
    """

    frequencies: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        half = (d_model + 1) // 2
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * torch.arange(half) / half), persistent=False)
        self.gain = nn.Parameter(torch.tensor(INITIAL_SCALE))
        self.d_model = d_model

    def forward(self, timesteps: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Compute the code `[B, K] -> [B, K, D]`."""
        angles = self.trained(timesteps).unsqueeze(-1) * self.frequencies  # [B, K, D / 2]
        # [B, K, 2 ceil(D / 2)], cut to D if D is odd
        return self.gain * torch.cat([angles.sin(), angles.cos()], dim=-1)[..., : self.d_model]


def build_positions(config: ModelConfig, n_timesteps: int) -> nn.Module | None:
    """Build the position code. Return None for `none` and for `phase_input: gate`, which add nothing to the tokens."""
    if config.phase_input == "gate":
        return None
    positions: nn.Module | None = POSITIONS[config.positions or "none"](config, n_timesteps)
    return positions


register_positions("none", lambda config, n_timesteps: None)
register_positions("learned", lambda config, n_timesteps: LearnedPositions(n_timesteps, config.d_model))
register_positions("sinusoidal", lambda config, n_timesteps: SinusoidalPositions(config.d_model))
