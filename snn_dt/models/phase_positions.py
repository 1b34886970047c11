"""Phase-shifted positional spikes (SNN-DT, arXiv 2508.21505): a position code, or a gate of the attention.

B batch, K steps, D width, G generators.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.layers import SpikeLinear
from snn_dt.models.positions import INITIAL_SCALE, TrainedTimesteps
from snn_dt.registry import register_positions
from snn_dt.snn.surrogate import spike

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class PhaseGenerators(TrainedTimesteps):
    r"""Phase-shifted positional spikes: generator g emits `1[sin(w_g t + p_g) > 0]`.

    `t` is the environment timestep. The published code used the simulation step, which is the same for all tokens. The
    spikes are binary in training and evaluation. `w` and `p` learn through the surrogate. `w` is stored as cycles per
    `n_timesteps`, so the effect of an optimizer step on the phase does not grow with the length of the episode.
    """

    def __init__(self, n_generators: int, n_timesteps: int, surrogate_slope: float = 10.0) -> None:
        super().__init__()
        longest = max(n_timesteps, 4)
        # Periods from 4 steps to twice the episode, like the bits of a counter. Quarter-turn shifts break ties at 0.
        periods = torch.logspace(math.log10(4), math.log10(2 * longest), n_generators)
        self.cycles = nn.Parameter(longest / periods)
        self.phase = nn.Parameter(torch.arange(n_generators) * (math.pi / 2) + math.pi / 4)
        self.n_timesteps = longest
        self.surrogate_slope = surrogate_slope

    @property
    def surrogate_slope(self) -> float:
        """Slope `k` of the surrogate. It can be assigned at any time.

        It is stored as a tensor so that a compiled graph takes it as an input.
        """
        return float(self._slope)

    @surrogate_slope.setter
    def surrogate_slope(self, slope: float) -> None:
        self._slope = torch.tensor(slope, dtype=torch.float64)

    def spikes(self, timesteps: Tensor) -> Tensor:
        """Emit binary spikes `[B, K] -> [B, K, G]`."""
        angle = self.trained(timesteps).unsqueeze(-1) * (2 * math.pi / self.n_timesteps) * self.cycles + self.phase
        return spike(angle.sin(), self._slope)  # [B, K, G]


class PhasePositions(PhaseGenerators):
    """Phase-shifted spikes mapped by a learned projection to a current that is added to the tokens."""

    def __init__(self, n_generators: int, n_timesteps: int, d_model: int, surrogate_slope: float = 10.0) -> None:
        super().__init__(n_generators, n_timesteps, surrogate_slope)
        self.projection = SpikeLinear(n_generators, d_model, sim_steps=1)
        nn.init.normal_(self.projection.weight, std=INITIAL_SCALE)

    def forward(self, timesteps: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Project the spikes to a current `[B, K] -> [B, K, D]`."""
        return self.projection(self.spikes(timesteps))


class PhaseGate(PhaseGenerators):
    """Phase-shifted spikes as a gate, as published. A silent generator zeroes its queries, keys and values.

    The G generators split the D features in order. With one generator per head a generator gates the whole head.
    """

    def __init__(self, n_generators: int, n_timesteps: int, d_model: int, surrogate_slope: float = 10.0) -> None:
        super().__init__(n_generators, n_timesteps, surrogate_slope)
        self.features = d_model // n_generators

    def forward(self, timesteps: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Repeat the spikes over the features that they gate: `[B, K] -> [B, K, D]`."""
        return self.spikes(timesteps).repeat_interleave(self.features, dim=-1)  # [B, K, G] -> [B, K, D]


def build_phase(config: ModelConfig, n_timesteps: int, module: type[PhasePositions | PhaseGate]) -> nn.Module:
    """Build the phase generators of all heads of a block."""
    slope = config.surrogate_slope
    assert slope is not None, "nulls of a config are resolved before anything is built"
    return module(config.n_heads * config.phase_generators, n_timesteps, config.d_model, slope)


register_positions("phase", lambda config, n_timesteps: build_phase(config, n_timesteps, PhasePositions))
