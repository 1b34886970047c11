"""Configuration of `snn-dt finetune`; the string under a field is its help text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from snn_dt import strict
from snn_dt.config import EvalConfig, TrackConfig, check_env_id
from snn_dt.model_config import Check, thread_check
from snn_dt.renamed import takes_old_names


@dataclass(frozen=True)
class ExploreConfig:
    """Exploration: how new episodes are gathered."""

    episodes: int = 5
    """Episodes per iteration."""
    target_return: float | None = None
    """Target return of new episodes in environment units. Null takes the policy's default or, if it is higher, the best
    return of its own episodes."""
    noise: float = 0.1
    """Standard deviation of the noise on continuous actions in half-ranges of the action. Without a finite range it is
    in standard deviations of the data's actions."""
    epsilon: float = 0.05
    """Discrete actions: probability of a random one."""


@takes_old_names
@dataclass(frozen=True)
class UpdateConfig:
    """Updates, data and critic."""

    iterations: int = 20
    """Number of iterations. Each gathers episodes and updates. Some evaluate."""
    updates: int = 100
    """Updates per iteration."""
    batch_size: int = 64
    """Windows per update and transitions per critic update."""
    learning_rate: float = 1e-4
    """Learning rate of the model (AdamW)."""
    weight_decay: float = 1e-4
    """Decoupled weight decay of matrices."""
    grad_clip: float = 1.0
    """Maximum norm of the model's gradient."""
    dataset: str | None = None
    """Dataset mixed into every batch (usually the training data). Null learns from new episodes only."""
    dataset_share: float = 0.5
    """Share of the dataset in every batch."""
    capacity: int = 200
    """Number of new episodes kept in the replay buffer."""
    filter_top: float = 0.1
    """Imitate only the episodes of highest return that hold this share of the steps, of the dataset and of the new
    episodes. Critics use all episodes. 1 keeps the meaning of lower targets but raised no return in our runs."""
    q_weight: float = 0.0
    """Weight of the critic's value of the actions at the target return; 0 is the online Decision Transformer. Discrete
    actions need 0. An inaccurate critic can destroy a policy."""
    critic_warm_up: int = 3000
    """Critic updates on observed discounted returns before the first update of the model."""
    critic_rate: float = 1e-3
    """Learning rate of the critics (Adam)."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Neurons of each layer of a critic."""
    gamma: float = 0.99
    """Discount factor."""
    tau: float = 0.005
    """Rate of the target networks' Polyak averaging."""
    policy_noise: float = 0.2
    """Standard deviation of the noise on the target's actions in half-ranges."""
    noise_clip: float = 0.5
    """Maximum magnitude of that noise."""
    eval_every: int = 5
    """Iterations between two evaluations; one before the first iteration and one after the last are always made."""
    save_every: int = 5
    """Iterations between two checkpoints."""
    seed: int = 0
    """Seed of noise, reset seeds and batches."""
    device: str = "auto"
    """`auto` (cuda if there is one), `cpu`, `cuda`, `cuda:N`, `mps`, `xpu`."""
    threads: int = 0
    """CPU threads of torch; 0 uses all cores available to this process."""


@dataclass(frozen=True)
class FinetuneConfig:
    """Configuration of a fine-tuning run."""

    checkpoint: str = ""
    """Checkpoint or run folder of the trained model."""
    env_id: str | None = None
    """Gymnasium environment; null takes the policy's own. `module:Env-v0` imports the module and is accepted only as a
    flag; a file may name registered environments only."""
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    track: TrackConfig = field(default_factory=TrackConfig)


def load_finetune_config(*paths: str | Path, trust: bool = False) -> FinetuneConfig:
    """Read YAML files over the defaults. Later files override earlier ones.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, value of a wrong type, or, without `trust`, an environment
            id that imports a module.
    """
    config = strict.load(FinetuneConfig, *paths)
    if not trust:
        check_env_id("env_id", config.env_id)
    return config


def validate_finetune(config: FinetuneConfig) -> None:
    """Check the values of all fields; raise `ConfigError` naming the first invalid one."""
    u, e = config.update, config.eval
    old, counts = round(u.dataset_share * u.batch_size), ("iterations", "updates", "batch_size", "capacity")
    not_negative = {
        "update": ("weight_decay", "q_weight", "critic_warm_up", "policy_noise", "noise_clip"),
        "explore": ("noise",),
    }
    checks: list[Check] = [
        ("checkpoint", bool(config.checkpoint), "the folder of a trained model", "none"),
        *strict.each(config, "at least 1", lambda x: x >= 1,
                     {"update": (*counts, "eval_every", "save_every"), "explore": ("episodes",),
                      "eval": ("episodes", "num_envs")}),
        *strict.each(config, "above 0", lambda x: x > 0, {"update": ("learning_rate", "critic_rate", "grad_clip")}),
        *strict.each(config, "at least 0", lambda x: x >= 0, not_negative),
        *strict.each(config, "in [0, 1]", lambda x: 0 <= x <= 1, {"explore": ("epsilon",), "update": ("gamma",)}),
        *strict.each(config, "in (0, 1]", lambda x: 0 < x <= 1, {"update": ("tau", "filter_top")}),
        ("update.critic_hidden", min(u.critic_hidden, default=0) >= 1, "sizes of at least 1", u.critic_hidden),
        ("update.dataset_share", 0 <= u.dataset_share < 1, "in [0, 1)", u.dataset_share),
        ("update.dataset_share", not (u.dataset and u.dataset_share) or 0 < old < u.batch_size,
         f"some of the {u.batch_size} windows of a batch and not all of them", u.dataset_share),
        ("update.seed", 0 <= u.seed < 2**31, "in [0, 2^31)", u.seed),
        ("eval.env_id", e.env_id is None, "null, as env_id names the environment of a fine-tuning", e.env_id),
        ("eval.context_length", e.context_length is None, "null, as the checkpoint states it", e.context_length),
        ("eval.seed", 0 <= e.seed < 2**32, "in [0, 2^32)", e.seed),
        ("eval.max_steps", e.max_steps is None or e.max_steps >= 1, "at least 1 or null", e.max_steps),
        thread_check("update.threads", u.threads),
    ]  # fmt: skip
    strict.check_all(checks)
