"""The configuration of `snn-dt finetune`; the text under a field is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from snn_dt import strict
from snn_dt.config import EvalConfig, TrackConfig, check_env_id
from snn_dt.model_config import Check, thread_check
from snn_dt.renamed import takes_old_names


@dataclass(frozen=True)
class ExploreConfig:
    """How new episodes are gathered."""

    episodes: int = 5
    """Episodes per iteration."""
    target_return: float | None = None
    """Return asked of the learner meanwhile, environment units; null asks for its default, or for the best of its own
    episodes where that is higher."""
    noise: float = 0.1
    """Continuous actions: deviation of the noise, in half-ranges of the action; where it has no finite range, in
    deviations of the data's actions."""
    epsilon: float = 0.05
    """Discrete actions: probability of a random one."""


@takes_old_names
@dataclass(frozen=True)
class UpdateConfig:
    """What is learned from them."""

    iterations: int = 20
    """Iterations: gather, update, and at times evaluate."""
    updates: int = 100
    """Updates per iteration."""
    batch_size: int = 64
    """Windows, and as many transitions, per update."""
    learning_rate: float = 1e-4
    """Learning rate of the model (AdamW)."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, on matrices only."""
    grad_clip: float = 1.0
    """Largest norm of the model's gradient."""
    dataset: str | None = None
    """Dataset that is mixed in, the one the model was trained on in most cases; null learns from new episodes alone."""
    dataset_share: float = 0.5
    """Share of it in every batch."""
    capacity: int = 200
    """New episodes kept."""
    filter_top: float = 0.1
    """Learn to act from the episodes of highest return alone, until they hold this share of the steps: of the dataset,
    and of the new episodes. Critics see all. 1 keeps what lower targets mean, and was not seen to raise a return."""
    q_weight: float = 0.0
    """Weight of a critic's judgement of the actions taken at the target return; 0 is the online Decision Transformer
    alone, and all that there is for discrete actions. A critic that is not right yet ruins a policy."""
    critic_warm_up: int = 3000
    """Critic updates towards the discounted returns that followed, before the first update of the model."""
    critic_rate: float = 1e-3
    """Learning rate of the critics (Adam)."""
    critic_hidden: tuple[int, ...] = (256, 256)
    """Neurons of each layer of a critic."""
    gamma: float = 0.99
    """Discount."""
    tau: float = 0.005
    """How far the targets follow in an update."""
    policy_noise: float = 0.2
    """Deviation of the noise on the target's actions, in half-ranges."""
    noise_clip: float = 0.5
    """Its largest magnitude."""
    eval_every: int = 5
    """Iterations between two evaluations; there is one before the first and one after the last in any case."""
    save_every: int = 5
    """Iterations between two checkpoints."""
    seed: int = 0
    """Seeds noise, starts and batches."""
    device: str = "auto"
    """`auto` (cuda if there is one), `cpu`, `cuda`, `cuda:N`."""
    threads: int = 0
    """CPU threads of torch; 0 takes the number of cores this process may use."""


@dataclass(frozen=True)
class FinetuneConfig:
    """A whole run of `snn-dt finetune`."""

    checkpoint: str = ""
    """Checkpoint or run folder to begin with."""
    env_id: str | None = None
    """Gymnasium environment; null takes the policy's own. `module:Env-v0`, which imports the module, only as a flag: a
    file may name registered ones."""
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    track: TrackConfig = field(default_factory=TrackConfig)


def load_finetune_config(*paths: str | Path, trust: bool = False) -> FinetuneConfig:
    """Read YAML files, each laid over those before it, over the defaults.

    Raises:
        ConfigError: missing file, bad YAML, unknown key, value of a wrong type, or, without `trust`, an environment
            that would import a module.
    """
    config = strict.load(FinetuneConfig, *paths)
    if not trust:
        check_env_id("env_id", config.env_id)
    return config


def validate_finetune(config: FinetuneConfig) -> None:
    """Check what a type cannot say; raise `ConfigError` naming the first field at fault."""
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
        ("eval.seed", 0 <= e.seed < 2**32, "in [0, 2^32)", e.seed),
        ("eval.max_steps", e.max_steps is None or e.max_steps >= 1, "at least 1 or null", e.max_steps),
        thread_check("update.threads", u.threads),
    ]  # fmt: skip
    strict.check_all(checks)
