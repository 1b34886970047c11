"""The configuration of `snn-dt rsnn`. The text under a field is its help; one simulation step is 1 ms."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from snn_dt import strict
from snn_dt.config import TrackConfig
from snn_dt.experimental.rsnn.checks import rsnn_checks
from snn_dt.experimental.rsnn.hebbian import HebbianConfig
from snn_dt.experimental.rsnn.penalties import PenaltyConfig
from snn_dt.experimental.rsnn.topology import TopologyConfig


@dataclass(frozen=True)
class TaskConfig:
    """What is learned."""

    kind: Literal["pattern", "evidence", "classes"] = "pattern"
    """`pattern`: draw a sum of sines from frozen noise; `evidence`: say, after a delay, on which side there were more
    cues; `classes`: tell noisy trains of several classes apart (Bellec et al. 2020 for the first two)."""
    inputs: int = 100
    """Input neurons."""
    steps: int = 1000
    """Steps of a sample; of `evidence`, from the end of the last cue to the end."""
    rate_hz: float = 50.0
    """Rate of an active input, in spikes per second."""
    cues: int = 7
    """Cues, odd, 150 steps each (evidence)."""
    classes: int = 4
    """Number of classes (classes)."""
    seed: int = 0
    """Seed of what stays the same in all samples: the pattern and its noise, the classes."""


@dataclass(frozen=True)
class NetworkConfig:
    """The network. Time constants are of exact exponential decays, `e^(-1/tau)` a step."""

    neurons: int = 100
    """Hidden neurons."""
    adaptive: int = 0
    """How many of them have an adaptive threshold (ALIF)."""
    refractory: int = 0
    """Steps after a spike in which a neuron cannot fire."""
    tau_mem: float = 30.0
    """Time constant of the membrane."""
    tau_out: float = 30.0
    """Time constant of the read-out."""
    tau_adaptation: float = 2000.0
    """Time constant of the adaptive threshold."""
    v_threshold: float = 0.03
    """Threshold; the membrane rests at 0."""
    threshold_adaptation: float | None = None
    """What a spike adds to the threshold of an adaptive neuron; null: 1.7 (1 - rho) / (1 - alpha)."""
    gain: Literal["leak", "unit"] = "leak"
    """What a current is multiplied with: 1 - alpha, or 1."""
    out_gain: Literal["leak", "unit"] = "unit"
    """The same of the leaky read-out: 1 - kappa, or 1."""
    reset: Literal["soft", "hard"] = "soft"
    """What a spike does to the membrane, one step later."""
    dampening: float = 0.3
    """Height of the surrogate (a triangle as wide as the threshold) times the threshold."""
    recurrent: bool = True
    """Hidden neurons drive one another."""
    readout: Literal["leaky", "spiking"] = "leaky"
    """Leaky sums, or LIF neurons that say something by their rates (`classes`)."""
    feedback: Literal["symmetric", "random", "adaptive"] = "symmetric"
    """The weights by which e-prop sends errors back: those of the read-out; fixed random ones; random ones that take
    the read-out's increments."""
    feedback_scale: float | None = None
    """Deviation of random feedback weights; null: 1 / sqrt(neurons), as the read-out's."""


@dataclass(frozen=True)
class LearnConfig:
    """How it is learned."""

    rule: Literal["bptt", "eprop", "hebbian"] = "eprop"
    """Where gradients come from; `hebbian` knows only a reward, and `classes`."""
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd"
    """torch.optim's; momentum is 0.9."""
    learning_rate: float = 1e-4
    """Learning rate, constant."""
    weight_decay: float = 0.0
    """Decoupled decay: a weight loses `learning_rate * weight_decay` of itself per update. Brings adaptive feedback to
    the read-out's weights."""
    grad_clip: float = 0.0
    """Largest global gradient norm; 0 switches clipping off."""
    loss: Literal["cross_entropy", "margin"] = "cross_entropy"
    """Of rates (`classes`): cross-entropy of their softmax, or a hinge on the margin of the right one."""
    temperature: float = 0.1
    """Temperature of that softmax."""
    margin: float = 0.05
    """Margin from which the hinge is 0, in spikes per step."""
    steps: int = 2000
    """Updates."""
    batch_size: int = 1
    """Samples per update."""
    stop_error: float = 0.0
    """Stop once an evaluation's error is below this: normalised squared error of `pattern`, share of wrong answers of
    the others."""
    seed: int = 0
    """Seeds weights and samples."""
    threads: int = 0
    """CPU threads of torch; 0 takes the number of cores this process may use."""
    log_every: int = 20
    """Updates between two lines of metrics."""
    eval_every: int = 100
    """Updates between two evaluations on samples of their own."""
    eval_samples: int = 128
    """Samples of an evaluation."""
    save_every: int = 100
    """Updates between two checkpoints; the last update always saves."""


@dataclass(frozen=True)
class RSNNConfig:
    """A whole run."""

    task: TaskConfig = field(default_factory=TaskConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    hebbian: HebbianConfig = field(default_factory=HebbianConfig)
    topology: TopologyConfig = field(default_factory=TopologyConfig)
    track: TrackConfig = field(default_factory=TrackConfig)


def load_rsnn_config(*paths: str | Path) -> RSNNConfig:
    """Read YAML files, each laid over those before it, over the defaults.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, value of a wrong type or out of range.
    """
    config = strict.load(RSNNConfig, *paths)
    validate_rsnn(config)
    return config


def validate_rsnn(config: RSNNConfig) -> None:
    """Check what a type cannot say; raise `ConfigError` naming the first field at fault."""
    strict.check_all(rsnn_checks(config))
