"""Configuration of `snn-dt rsnn`; the string under a field is its help text. One simulation step is 1 ms."""

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
    """The task."""

    kind: Literal["pattern", "evidence", "classes"] = "pattern"
    """`pattern`: generate a sum of sines from fixed noise; `evidence`: report, after a delay, the side with more cues;
    `classes`: classify noisy spike trains. The first two are tasks of Bellec et al. 2020."""
    inputs: int = 100
    """Input neurons."""
    steps: int = 1000
    """Steps per sample. For `evidence` the steps after the last cue."""
    rate_hz: float = 50.0
    """Rate of an active input in spikes per second."""
    cues: int = 7
    """Odd number of cues of 150 steps each (evidence)."""
    classes: int = 4
    """Number of classes (classes)."""
    seed: int = 0
    """Seed of the parts shared by all samples (pattern and noise, or classes)."""


@dataclass(frozen=True)
class NetworkConfig:
    """The network. A time constant tau, in steps, means a decay by `e^(-1/tau)` per step."""

    neurons: int = 100
    """Hidden neurons."""
    adaptive: int = 0
    """Number of hidden neurons with an adaptive threshold (ALIF)."""
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
    """Increase of an adaptive neuron's threshold per spike; null: 1.7 (1 - rho) / (1 - alpha)."""
    gain: Literal["leak", "unit"] = "leak"
    """Factor on input currents: `leak` is 1 - alpha, `unit` is 1."""
    out_gain: Literal["leak", "unit"] = "unit"
    """Factor on the read-out's input: `leak` is 1 - kappa, `unit` is 1."""
    reset: Literal["soft", "hard"] = "soft"
    """Reset of the membrane one step after a spike."""
    dampening: float = 0.3
    """Peak of the surrogate derivative times the threshold; it is a triangle as wide as the threshold."""
    recurrent: bool = True
    """Connect hidden neurons with each other."""
    readout: Literal["leaky", "spiking"] = "leaky"
    """`leaky`: leaky sums of spikes; `spiking`: LIF neurons whose rates are the output (`classes`)."""
    feedback: Literal["symmetric", "random", "adaptive"] = "symmetric"
    """Feedback weights of e-prop: those of the read-out; fixed random ones; or random ones updated with the read-out's
    increments."""
    feedback_scale: float | None = None
    """Standard deviation of random feedback weights; null: 1 / sqrt(neurons), like the read-out."""


@dataclass(frozen=True)
class LearnConfig:
    """Learning rule, optimizer and schedule."""

    rule: Literal["bptt", "eprop", "hebbian"] = "eprop"
    """Source of the gradients; `hebbian` uses a reward only and needs the task `classes`."""
    optimizer: Literal["sgd", "momentum", "adam"] = "sgd"
    """Optimizer of torch; the momentum is 0.9."""
    learning_rate: float = 1e-4
    """Constant learning rate."""
    weight_decay: float = 0.0
    """Decoupled decay: a weight shrinks by the share `learning_rate * weight_decay` per update. It makes adaptive
    feedback converge to the read-out's weights."""
    grad_clip: float = 0.0
    """Maximum global gradient norm; 0 disables clipping."""
    loss: Literal["cross_entropy", "margin"] = "cross_entropy"
    """Loss on rates (`classes`): cross-entropy of their softmax, or a hinge on the margin of the right one."""
    temperature: float = 0.1
    """Temperature of the softmax."""
    margin: float = 0.05
    """Margin from which the hinge is 0, in spikes per step."""
    steps: int = 2000
    """Updates."""
    batch_size: int = 1
    """Samples per update."""
    stop_error: float = 0.0
    """Stop when the error of an evaluation is below this: normalised squared error of `pattern`, share of wrong answers
    of the other tasks."""
    seed: int = 0
    """Seed of weights and samples."""
    threads: int = 0
    """CPU threads of torch; 0 uses all cores available to this process."""
    log_every: int = 20
    """Updates between two lines of metrics."""
    eval_every: int = 100
    """Updates between two evaluations on separate samples."""
    eval_samples: int = 128
    """Samples per evaluation."""
    save_every: int = 100
    """Updates between two checkpoints; the last update always saves."""


@dataclass(frozen=True)
class RSNNConfig:
    """Configuration of a run of `snn-dt rsnn`."""

    task: TaskConfig = field(default_factory=TaskConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    hebbian: HebbianConfig = field(default_factory=HebbianConfig)
    topology: TopologyConfig = field(default_factory=TopologyConfig)
    track: TrackConfig = field(default_factory=TrackConfig)


def load_rsnn_config(*paths: str | Path) -> RSNNConfig:
    """Read YAML files over the defaults. Later files override earlier ones.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, value of a wrong type or out of range.
    """
    config = strict.load(RSNNConfig, *paths)
    validate_rsnn(config)
    return config


def validate_rsnn(config: RSNNConfig) -> None:
    """Check the values of all fields; raise `ConfigError` naming the first invalid one."""
    strict.check_all(rsnn_checks(config))
