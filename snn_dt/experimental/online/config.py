"""The configuration of `snn-dt online`; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from snn_dt import strict
from snn_dt.config import TrackConfig
from snn_dt.experimental.online.checks import online_checks


@dataclass(frozen=True)
class TaskConfig:
    """The drones of `snn_dt/CrazyflieHover-v0`."""

    drones: int = 10
    """Drones flown side by side when data are gathered."""
    horizon: int = 500
    """Steps of a flight, 100 a second."""
    spread: float = 0.5
    """How far from hover flights begin, of what was published; see the environment."""
    reward_stages: int = 6
    """Linear updates of the reward's costs over the run, from its first to its last; 0 has the last throughout."""


@dataclass(frozen=True)
class ActorConfig:
    """The spiking actor."""

    hidden: tuple[int, ...] = (256, 128)
    """Neurons of each layer."""
    surrogate_slope: float = 2.0
    """k at the beginning."""
    slope_schedule: Literal["fixed", "linear", "cubic", "geometric", "adaptive"] = "adaptive"
    """Stays; goes to `last_slope` in ten stages; or follows the returns of the evaluations (Eq. 7 of 2510.24461)."""
    last_slope: float = 100.0
    """k of the last stage; the largest of `adaptive`."""


@dataclass(frozen=True)
class LearnConfig:
    """TD3 and behaviour cloning; which of them is said by the two weights."""

    q_weight: float = 1.0
    """Weight of the critic's judgement; 0 is behaviour cloning alone."""
    bc_weight: float = 0.2
    """Weight of the squared distance from the recorded actions at first; 0 is TD3 alone."""
    bc_decay: float = 0.99
    """What the weight is multiplied with after every iteration."""
    alpha: float = 2.0
    """Scale of the judgement, which is divided by its mean magnitude (TD3+BC)."""
    critic_first: int = 100
    """Critic updates before the actor listens to it; until then it copies, or waits if it is not to copy. The
    gradient of a young critic has no direction, or the wrong one."""
    saturation: float = 0.01
    """Weight of (|u| - 1)^2 on what is beyond 1 of the input u of the actor's last tanh: a critic can drive it out of
    reach."""
    warm_up: int = 50
    """First steps of a sequence that bring the membranes up and are not in the actor's loss."""
    length: int = 100
    """Steps of a sequence."""
    stride: int = 50
    """Steps between the beginnings of two sequences of one flight."""
    capacity: int = 2000
    """Sequences kept."""
    batch_size: int = 64
    """Sequences per update."""
    actor_rate: float = 1e-3
    """Learning rate of the actor (Adam)."""
    critic_rate: float = 3e-4
    """Learning rate of the critics (Adam)."""
    critic_hidden: tuple[int, ...] = (256, 128)
    """Neurons of each layer of a critic."""
    gamma: float = 0.99
    """Discount."""
    tau: float = 0.01
    """How far the targets follow in an update."""
    policy_noise: float = 0.2
    """Deviation of the noise on the target's actions."""
    noise_clip: float = 0.5
    """Its largest magnitude."""
    policy_delay: int = 2
    """Critic updates per actor update."""
    grad_clip: float = 1.0
    """Largest norm of the actor's gradient."""


@dataclass(frozen=True)
class JumpStartConfig:
    """Who flies when data are gathered."""

    enabled: bool = True
    """The guide begins every flight; else the learner flies from the first step."""
    curriculum: Literal["linear", "score", "random"] = "linear"
    """How the learner's share grows: with every iteration; when an evaluation is near the best; drawn below that."""
    first: int = 50
    """The learner's share of a flight at first, steps."""
    growth: int = 25
    """What is added to it at each stage, steps."""
    tolerance: float = 20.0
    """`score`: how far below the best return an evaluation may be."""
    noise: float = 0.1
    """Deviation of the exploration noise on the learner's actions."""
    guide_noise: float = 0.1
    """Deviation of the noise on the guide's."""


@dataclass(frozen=True)
class GuideConfig:
    """The privileged guide."""

    kind: Literal["td3", "pilot"] = "pilot"
    """`td3`: an MLP that learns until it stays in the air for `until` steps; `pilot`: the scripted controller."""
    skill: float = 0.0
    """`pilot`: 1 is an expert (return 470 of 500), 0 a slack one that loses a third of its drones (270)."""
    load: str | None = None
    """A guide.safetensors of an earlier run, instead of training one (td3)."""
    until: float = 150.0
    """Mean steps in the air, over 64 flights, at which its training ends."""
    most_steps: int = 400_000
    """Environment steps at which its training ends in any case."""
    hidden: tuple[int, ...] = (64, 64)
    """Neurons of each layer."""


@dataclass(frozen=True)
class OnlineTrainConfig:
    """The run."""

    iterations: int = 40
    """Iterations: fly, update, and at times evaluate."""
    updates: int = 50
    """Critic updates per iteration."""
    offline: bool = False
    """Fly once, at the beginning, all by the guide, and learn from that alone."""
    offline_flights: int = 10
    """`offline`: how many times `task.drones` drones are flown for a horizon."""
    eval_every: int = 2
    """Iterations between two evaluations; the last iteration always evaluates."""
    save_every: int = 10
    """Iterations between two checkpoints; the last iteration always saves."""
    seed: int = 0
    """Seeds weights, starts, noise and batches."""
    threads: int = 0
    """CPU threads of torch; 0 takes the number of cores this process may use."""


@dataclass(frozen=True)
class OnlineEvalConfig:
    """The flights that count; their reward is the last of the curriculum."""

    flights: int = 32
    """Flights, from the same starts each time."""
    seed: int = 10_000
    """Reset seed of the first."""
    guided: int = 0
    """Steps at the beginning of each that the guide flies (50 in the code of 2510.24461; then the return is not the
    learner's alone)."""


@dataclass(frozen=True)
class OnlineConfig:
    """A whole run of `snn-dt online`."""

    task: TaskConfig = field(default_factory=TaskConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    jump_start: JumpStartConfig = field(default_factory=JumpStartConfig)
    guide: GuideConfig = field(default_factory=GuideConfig)
    train: OnlineTrainConfig = field(default_factory=OnlineTrainConfig)
    eval: OnlineEvalConfig = field(default_factory=OnlineEvalConfig)
    track: TrackConfig = field(default_factory=TrackConfig)


def load_online_config(*paths: str | Path) -> OnlineConfig:
    """Read YAML files, each laid over those before it, over the defaults.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, value of a wrong type or out of range.
    """
    config = strict.load(OnlineConfig, *paths)
    validate_online(config)
    return config


def validate_online(config: OnlineConfig) -> None:
    """Check what a type cannot say; raise `ConfigError` naming the first field at fault."""
    strict.check_all(online_checks(config))
