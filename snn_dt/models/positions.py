"""Position codes of the environment timestep. They map `timesteps [B, K]` to `[B, K, D]`, which is added to the tokens.

B batch, K steps, D width, G generators. Every code starts small relative to the tokens. With a position as large as a
token the policy ignores its target return. `model.positions` selects an entry of the table `POSITIONS`.
"""

from __future__ import annotations

# ruff: noqa: F722, the shapes of jaxtyping are text
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.layers import SpikeLinear
from snn_dt.registry import POSITIONS, register_positions
from snn_dt.snn.surrogate import spike

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


class PhaseGenerators(TrainedTimesteps):
    r"""Phase-shifted positional spikes (SNN-DT, arXiv 2508.21505): generator g emits `1[sin(w_g t + p_g) > 0]`.

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


def build_positions(config: ModelConfig, n_timesteps: int) -> nn.Module | None:
    """Build the position code. Return None for `none` and for `phase_input: gate`, which add nothing to the tokens."""
    if config.phase_input == "gate":
        return None
    positions: nn.Module | None = POSITIONS[config.positions or "none"](config, n_timesteps)
    return positions


def build_phase(config: ModelConfig, n_timesteps: int, module: type[PhasePositions | PhaseGate]) -> nn.Module:
    """Build the phase generators of all heads of a block."""
    slope = config.surrogate_slope
    assert slope is not None, "nulls of a config are resolved before anything is built"
    return module(config.n_heads * config.phase_generators, n_timesteps, config.d_model, slope)


register_positions("none", lambda config, n_timesteps: None)
register_positions("learned", lambda config, n_timesteps: LearnedPositions(n_timesteps, config.d_model))
register_positions("sinusoidal", lambda config, n_timesteps: SinusoidalPositions(config.d_model))
register_positions("phase", lambda config, n_timesteps: build_phase(config, n_timesteps, PhasePositions))
