"""Configuration of `snn-dt online`; the string under a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from snn_dt import strict
from snn_dt.config import TrackConfig, check_env_id
from snn_dt.experimental.online.config_checks import online_checks


@dataclass(frozen=True)
class TaskConfig:
    """The environment; `hover` marks what only the drone of this package has."""

    env_id: str = "snn_dt/CrazyflieHover-v0"
    """A Gymnasium environment with continuous actions. Its bounds become [-1, 1]. `module:Env-v0` imports the module
    and is allowed only as a flag."""
    drones: int = 10
    """Environments that run side by side to gather data."""
    horizon: int = 0
    """Most steps per flight; 0 is the limit of the environment (500 for the drone, 5 s)."""
    learner_columns: int = 0
    """Number of first observation columns that the learner sees; guide and critics see all. 0: all (18 for `hover`)."""
    spread: float = 0.5
    """`hover`: spread of the initial states as a share of the published ranges. See the environment."""
    training_spread: float | None = None
    """`hover`: the spread in training flights; null is `spread`. A wider one shows more of the hard starts."""
    flight: int = 0
    """Most steps of a training flight; 0 is the horizon. Shorter ones show more starts."""
    reward_stages: int = 6
    """`hover`: linear steps of the reward's costs from first to last over the run; 0 uses the last costs throughout."""
    mass: float = 0.0
    """`hover`: each flight draws a factor on the mass from 1 - x to 1 + x."""
    thrust: float = 0.0
    """`hover`: the same for the thrust of all rotors."""
    rotor_lag: float = 0.0
    """`hover`: the same for the rotors' time constants."""
    noise: float = 0.0
    """`hover`: Gaussian noise of the observation; 1 is 5 mm, 0.01 (rotation matrix), 0.02 m/s and 0.05 rad/s."""
    delay: tuple[int, int] = (0, 0)
    """`hover`: fewest and most steps (10 ms) by which commands come late, drawn for each flight."""
    commands: int = 0
    """`hover`: number of its own last actions that the learner sees after its 18 columns. Guide and critics then see
    the true state, the differences and the delay instead of 32 actions."""


@dataclass(frozen=True)
class ActorConfig:
    """The spiking actor."""

    hidden: tuple[int, ...] = (256, 128)
    """Neurons per layer."""
    surrogate_slope: float = 2.0
    """Slope k of the surrogate at the beginning."""
    slope_schedule: Literal["fixed", "linear", "cubic", "geometric", "adaptive"] = "adaptive"
    """`fixed`; in ten stages to `last_slope`; or `adaptive`, by the returns of evaluations (2510.24461, Eq. 7)."""
    last_slope: float = 100.0
    """k of the last stage; the maximum of `adaptive`."""


@dataclass(frozen=True)
class LearnConfig:
    """How the actor learns. With `replay` the weights of value and cloning select TD3, TD3+BC or behaviour cloning."""

    method: Literal["replay", "dagger", "ppo"] = "replay"
    """`replay`: from recorded actions and critics; `dagger`: the learner flies and the guide labels what it sees;
    `ppo`: proximal policy optimization through time."""
    start: str | None = None
    """An earlier run (its folder) whose actor is trained further."""
    q_weight: float = 1.0
    """Weight of the critic's value; 0 is behaviour cloning only."""
    bc_weight: float = 0.2
    """Initial weight of the squared distance to the recorded actions; 0 is TD3 only."""
    bc_decay: float = 0.99
    """Factor on `bc_weight` after each iteration."""
    alpha: float = 2.0
    """Scale of the value term. The term is divided by the mean absolute value (TD3+BC)."""
    critic_first: int = 100
    """Critic updates before the actor uses the critic; until then the actor only clones, or waits if `bc_weight` is 0.
    The gradient of an untrained critic is uninformative."""
    saturation: float = 0.01
    """Weight of max(|u| - 1, 0)^2, u the input of the actor's last tanh: without it a critic can drive the tanh into
    saturation."""
    warm_up: int = 50
    """Number of first steps of a sequence that settle the membranes. They are not in the actor's loss."""
    count_take_off: bool = False
    """Count these steps where the flight begins with the sequence: there the learner really is at rest."""
    length: int = 100
    """Steps per sequence."""
    stride: int = 50
    """Steps between the starts of two sequences of a flight."""
    capacity: int = 2000
    """Maximum number of sequences in the buffer."""
    batch_size: int = 64
    """Sequences per update."""
    actor_rate: float = 1e-3
    """Learning rate of the actor (Adam)."""
    last_rate: float = 1.0
    """Factor on `actor_rate` in the last iteration; it falls linearly to it. With `ppo` also on `critic_rate`."""
    critic_rate: float = 3e-4
    """Learning rate of the critics (Adam)."""
    critic_hidden: tuple[int, ...] = (256, 128)
    """Neurons per hidden layer of a critic."""
    gamma: float = 0.99
    """Discount factor."""
    tau: float = 0.01
    """Rate of the target networks' Polyak averaging."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on the target's actions."""
    noise_clip: float = 0.5
    """Maximum magnitude of that noise."""
    policy_delay: int = 2
    """Critic updates per actor update."""
    grad_clip: float = 1.0
    """Maximum norm of the actor's gradient."""
    exploration: float = 0.37
    """`ppo`: initial standard deviation of the actions; it is learned."""
    epochs: int = 10
    """`ppo`: passes over the steps of an iteration."""
    divergence: float = 0.05
    """`ppo`: KL divergence from the policy that flew at which an iteration ends early."""


@dataclass(frozen=True)
class JumpStartConfig:
    """Jump start: the guide begins each flight and the learner finishes it."""

    enabled: bool = True
    """Use the guide; otherwise the learner flies from the first step."""
    curriculum: Literal["linear", "score", "random"] = "linear"
    """Growth of the learner's share: every iteration; after an evaluation near the best; drawn for each flight."""
    first: int = 50
    """Initial share of the learner in steps."""
    growth: int = 25
    """Increase of the share per stage in steps."""
    tolerance: float = 20.0
    """`score`: accepted distance of an evaluation below the best return."""
    noise: float = 0.1
    """Standard deviation of the exploration noise on the learner's actions."""
    guide_noise: float = 0.1
    """Standard deviation of the noise on the guide's actions."""


@dataclass(frozen=True)
class GuideConfig:
    """The guide. It sees the privileged observation."""

    kind: Literal["pilot", "ppo"] = "pilot"
    """`pilot`: the scripted controller of the drone; `ppo`: an MLP trained by stable-baselines3 (`pip install
    "snn-dt[rl]"`)."""
    skill: float = 0.0
    """Skill of `pilot`: 1 is an expert (return 470 of 500). 0 loses a third of its drones (return 270)."""
    load: str | None = None
    """`ppo`: a guide.safetensors that replaces the training, or `hover`, which comes with the package (return 460)."""
    sees: Literal["plain", "privileged"] = "plain"
    """`ppo`: the columns that the learner sees, or all."""
    most_steps: int = 2_600_000
    """`ppo`: environment steps of its training. 2.6 million take two to nine minutes of a core."""
    hidden: tuple[int, ...] = (64, 64)
    """`ppo`: neurons per layer."""
    normalise: bool = False
    """`ppo`: normalise observations and rewards during training. The drone needs neither."""


@dataclass(frozen=True)
class OnlineTrainConfig:
    """Length and schedule of the run."""

    iterations: int = 40
    """Number of iterations. Each flies and updates. Some evaluate."""
    updates: int = 50
    """Critic updates per iteration."""
    offline: bool = False
    """Learn only from flights of the guide. They are flown once at the beginning."""
    offline_flights: int = 10
    """`offline`: rounds of `task.drones` drones for one horizon each."""
    eval_every: int = 2
    """Iterations between two evaluations; the last iteration always evaluates."""
    save_every: int = 10
    """Iterations between two checkpoints; the last iteration always saves."""
    seed: int = 0
    """Seed of weights, initial states, noise and batches."""
    threads: int = 0
    """CPU threads of torch; 0 uses all cores available to this process."""


@dataclass(frozen=True)
class OnlineEvalConfig:
    """Evaluation flights with the last reward of the curriculum."""

    flights: int = 32
    """Number of flights; the initial states are the same each time."""
    seed: int = 10_000
    """Reset seed of the first flight."""
    guided: int = 0
    """First steps of each flight that the guide flies; the return is then not the learner's alone (50 in the code of
    2510.24461)."""


@dataclass(frozen=True)
class OnlineConfig:
    """Configuration of a run of `snn-dt online`."""

    task: TaskConfig = field(default_factory=TaskConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    learn: LearnConfig = field(default_factory=LearnConfig)
    jump_start: JumpStartConfig = field(default_factory=JumpStartConfig)
    guide: GuideConfig = field(default_factory=GuideConfig)
    train: OnlineTrainConfig = field(default_factory=OnlineTrainConfig)
    eval: OnlineEvalConfig = field(default_factory=OnlineEvalConfig)
    track: TrackConfig = field(default_factory=TrackConfig)

    @property
    def has_guide(self) -> bool:
        """Whether a guide flies or labels."""
        return self.learn.method == "dagger" or (self.learn.method == "replay" and self.jump_start.enabled)


def load_online_config(*paths: str | Path, trust: bool = False) -> OnlineConfig:
    """Read YAML files over the defaults. Later files override earlier ones.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, value of a wrong type or out of range, or, without `trust`, an
            environment id that imports a module.
    """
    config = strict.load(OnlineConfig, *paths)
    if not trust:
        check_env_id("task.env_id", config.task.env_id)
    validate_online(config)
    return config


def validate_online(config: OnlineConfig) -> None:
    """Check the values of all fields; raise `ConfigError` naming the first invalid one."""
    strict.check_all(online_checks(config))
