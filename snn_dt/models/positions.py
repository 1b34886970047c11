"""Position codes of the environment timestep: `timesteps [B, K]` to `[B, K, D]`, which is added to the tokens.

B batch, K steps, D width, G generators. Every code starts small beside the tokens: with a position as large as a token,
the policy ignores its target return. `model.positions` selects one of the table `POSITIONS`.
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
    """Base of the codes: a decision at a timestep later than any in training uses the code of the last trained one.

    Training data often have shorter episodes than the environment allows. Nothing is learned of later timesteps: rows
    of a table keep random initial values, and the model has seen no later phase of a sinusoid or generator.

    Attributes:
        last: latest timestep seen in training, -1 before there was any; part of the state dict. A checkpoint
            without it, as 0.1.0 wrote them, has no limit.
    """

    last: Tensor

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_buffer("last", torch.tensor(-1))

    def trained(self, timesteps: Tensor) -> Tensor:
        """Limit `[B, K]` to what was trained; in training, note the latest timestep instead."""
        if self.training:
            self.last.copy_(torch.maximum(self.last, timesteps.max()))
            return timesteps
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
        """Look up `[B, K] -> [B, K, D]`."""
        return nn.Embedding.forward(self, self.trained(timesteps.clamp(max=self.num_embeddings - 1)))


class SinusoidalPositions(TrainedTimesteps):
    """The fixed code of Vaswani et al. 2017, on environment timesteps, times a learned gain: `g sin, g cos(w_i t)`."""

    frequencies: Tensor

    def __init__(self, d_model: int) -> None:
        super().__init__()
        half = (d_model + 1) // 2
        self.register_buffer("frequencies", torch.exp(-math.log(10_000) * torch.arange(half) / half), persistent=False)
        self.gain = nn.Parameter(torch.tensor(INITIAL_SCALE))
        self.d_model = d_model

    def forward(self, timesteps: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Compute `[B, K] -> [B, K, D]`."""
        angles = self.trained(timesteps).unsqueeze(-1) * self.frequencies  # [B, K, D / 2]
        return self.gain * torch.cat([angles.sin(), angles.cos()], dim=-1)[..., : self.d_model]


class PhaseGenerators(TrainedTimesteps):
    r"""Phase-shifted positional spikes (SNN-DT, arXiv 2508.21505): generator g emits `1[sin(w_g t + p_g) > 0]`.

    `t` is the environment timestep (the published code used the simulation step, which tells no two tokens apart) and
    the spikes are hard in training and evaluation alike; `w`, `p` learn through the surrogate. `w` is kept as cycles
    per `n_timesteps`, so that one optimizer step moves the phase of a late timestep no more than that of an early one
    by the length of the episode.
    """

    def __init__(self, n_generators: int, n_timesteps: int, surrogate_slope: float = 10.0) -> None:
        super().__init__()
        longest = max(n_timesteps, 4)
        # Periods from 4 steps to twice the episode, as the bits of a counter; quarter-turn shifts break ties at t = 0.
        periods = torch.logspace(math.log10(4), math.log10(2 * longest), n_generators)
        self.cycles = nn.Parameter(longest / periods)
        self.phase = nn.Parameter(torch.arange(n_generators) * (math.pi / 2) + math.pi / 4)
        self.n_timesteps = longest
        self.surrogate_slope = surrogate_slope

    @property
    def surrogate_slope(self) -> float:
        """`k`, which may be assigned at any time; a tensor, so that a compiled graph takes it as an input."""
        return float(self._slope)

    @surrogate_slope.setter
    def surrogate_slope(self, slope: float) -> None:
        self._slope = torch.tensor(slope, dtype=torch.float64)

    def spikes(self, timesteps: Tensor) -> Tensor:
        """Emit `[B, K] -> [B, K, G]`, binary."""
        angle = self.trained(timesteps).unsqueeze(-1) * (2 * math.pi / self.n_timesteps) * self.cycles + self.phase
        return spike(angle.sin(), self._slope)  # [B, K, G]


class PhasePositions(PhaseGenerators):
    """The spikes through a learned projection: a current, added to the tokens."""

    def __init__(self, n_generators: int, n_timesteps: int, d_model: int, surrogate_slope: float = 10.0) -> None:
        super().__init__(n_generators, n_timesteps, surrogate_slope)
        self.projection = SpikeLinear(n_generators, d_model, sim_steps=1)
        nn.init.normal_(self.projection.weight, std=INITIAL_SCALE)

    def forward(self, timesteps: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Project the spikes to a current `[B, K] -> [B, K, D]`."""
        return self.projection(self.spikes(timesteps))


class PhaseGate(PhaseGenerators):
    """The spikes as a gate, as published: a silent generator silences its share of its head's queries, keys and values.

    With one generator per head that is the whole head; G generators share the D features in order.
    """

    def __init__(self, n_generators: int, n_timesteps: int, d_model: int, surrogate_slope: float = 10.0) -> None:
        super().__init__(n_generators, n_timesteps, surrogate_slope)
        self.features = d_model // n_generators

    def forward(self, timesteps: Int[Tensor, "B K"]) -> Float[Tensor, "B K D"]:
        """Spread the spikes over the features they gate, `[B, K] -> [B, K, D]`."""
        return self.spikes(timesteps).repeat_interleave(self.features, dim=-1)


def build_positions(config: ModelConfig, n_timesteps: int) -> nn.Module | None:
    """Build what is added to the tokens; None for `none`, and for `phase_input: gate`, which adds nothing."""
    if config.phase_input == "gate":
        return None
    positions: nn.Module | None = POSITIONS[config.positions or "none"](config, n_timesteps)
    return positions


def build_phase(config: ModelConfig, n_timesteps: int, module: type[PhasePositions | PhaseGate]) -> nn.Module:
    """Build generators of phase-shifted spikes for all heads of a block."""
    slope = config.surrogate_slope
    assert slope is not None, "nulls of a config are resolved before anything is built"
    return module(config.n_heads * config.phase_generators, n_timesteps, config.d_model, slope)


register_positions("none", lambda config, n_timesteps: None)
register_positions("learned", lambda config, n_timesteps: LearnedPositions(n_timesteps, config.d_model))
register_positions("sinusoidal", lambda config, n_timesteps: SinusoidalPositions(config.d_model))
register_positions("phase", lambda config, n_timesteps: build_phase(config, n_timesteps, PhasePositions))
