"""The configuration of a run: frozen dataclasses, read strictly from YAML. Every field is also a command-line flag.

The text under a field is its help (`snn-dt train --help-all`) and gives its unit. Later sources override earlier
ones: the defaults below, the `base` chain of a YAML file, the file itself, flags.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from snn_dt import strict
from snn_dt.errors import ConfigError
from snn_dt.io import write_atomically
from snn_dt.model_config import Check, model_checks, thread_check
from snn_dt.model_config import ModelConfig as ModelConfig
from snn_dt.renamed import takes_old_names
from snn_dt.rule_config import EpropConfig, PlasticityConfig, rule_checks

Target = float | Literal["most"]
"""A target return in environment units, or the most that the data hold."""


@takes_old_names
@dataclass(frozen=True)
class DataConfig:
    """The dataset and how it is sampled."""

    dataset: str = "datasets/sb3/cartpole/mixed-v0"
    """`minari:<id>`, `d4rl:<id>`, `d4rl:<path>.hdf5`, or a folder."""
    download: bool = False
    """Download a Minari or D4RL dataset that is missing on this machine."""
    reward_mode: Literal["dense", "delayed", "clipped"] = "dense"
    """`delayed` moves the sum of an episode's rewards to its last step. `clipped` limits each reward to -1 to 1 for
    the training, as for Atari; an evaluation subtracts and reports the environment's own."""
    rtg_scale: float | None = None
    """Divisor of the return-to-go, in environment units. Null takes the largest |return-to-go| of the dataset."""
    normalize: bool = True
    """Normalise states to zero mean and unit standard deviation."""
    frame_stack: int = 1
    """Number of frames of an image observation that a state holds: this one and those before it in the episode, whose
    first one repeats. The dataset and the cache hold single frames."""
    validation_fraction: float = 0.0
    """Fraction of the episodes held out for the validation loss."""
    split_seed: int = 0
    """Seed of the split into training and validation episodes."""
    filter_top: float = 1.0
    """Train only on the episodes of highest return that together hold this fraction of the steps."""
    oversample_top: float = 0.0
    """Fraction of training windows drawn from the best episodes, those of highest return with a tenth of the steps.
    Oversamples the best episodes; the return labels are unchanged."""
    rtg_augment: float = 0.0
    """Fraction of training windows whose return-to-go is increased by a random amount (mean: 10 % of its range). A
    policy that falls behind its target sees such values."""
    relabel_goals: float = 0.0
    """Fraction of training windows whose desired goal is replaced by one that the episode achieved later (hindsight).
    Only for policies that read no return, because a replaced goal has none. See docs/data.md."""


@dataclass(frozen=True)
class SlopeConfig:
    """Schedule of the surrogate slope k, from `model.surrogate_slope` on. The forward pass does not depend on k."""

    kind: Literal["fixed", "linear", "cubic", "geometric", "adaptive"] = "fixed"
    """`fixed` keeps k. `adaptive` follows the score of the evaluations. The others change k in stages up to `last`."""
    last: float = 100.0
    """k of the last stage. For `adaptive` the largest k; the smallest is 1."""
    stages: int = 10
    """Number of changes of k, evenly spaced over the run (linear, cubic, geometric)."""
    score: Literal["normalized", "return", "loss"] = "normalized"
    """Score for `adaptive`: normalised score, return in environment units (Eq. 7 of arXiv 2510.24461), or 1 -
    validation loss / first validation loss."""
    layers: tuple[float, ...] = ()
    """Factor of k in each block, first block first; empty means 1 everywhere."""


@dataclass(frozen=True)
class BudgetConfig:
    """Limits of a spiking network's activity. The excess over a limit adds to the loss; null sets no limit."""

    synaptic_operations: float | None = None
    """Accumulates caused by spikes per decision, whole network: `acs_per_decision` without the additions of norms and
    residual branches."""
    mean_firing_rate: float | None = None
    """Spikes per neuron and simulation step, averaged over all neurons, in (0, 1]."""
    weight: float = 0.2
    """Loss for each factor e above a limit, in the second half of the training; in the first half it grows from 0.
    Smaller values may exceed the limit. Larger values let the penalty dominate, and the policy ignores its target
    return."""

    @property
    def limits(self) -> dict[str, float]:
        """Limits that are not null."""
        found = {"synaptic_operations": self.synaptic_operations, "mean_firing_rate": self.mean_firing_rate}
        return {name: limit for name, limit in found.items() if limit is not None}


@takes_old_names
@dataclass(frozen=True)
class TrainConfig:
    """The optimisation."""

    steps: int = 1000
    """Optimizer updates."""
    batch_size: int = 64
    """Windows per update."""
    accumulate: int = 1
    """Micro-batches per update, which need less memory; must divide batch_size. Without dropout the gradient of dense,
    snn_dt and snn_dt_stream is that of the whole batch. That of dsformer differs: its batch norm takes the statistics
    of each micro-batch."""
    # Spiking models with a window learn too slowly at 1e-3. Returns on Pendulum at 1e-3 and 3e-3 (results/pilots):
    # snn_dt-full -195 and -164, with a budget -404 and -161, dsformer_pssa -290 and -220, dense -159 and -159.
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, on matrices only."""
    warmup_steps: int = 200
    """Updates of linear warm-up."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up; `cosine` decays to 0 at the last update."""
    stateful: bool = False
    """Truncated BPTT (snn_dt_stream): each batch row reads whole episodes, one window of context_length steps per
    update. The state is carried from update to update; the gradient stops at the start of the window. False draws
    single windows, each from the resting state."""
    grad_clip: float = 1.0
    """Largest global gradient norm; 0 disables clipping."""
    seed: int = 0
    """Seed of initial weights, batch order and dropout."""
    device: str = "auto"
    """`auto` (cuda if there is one), `cpu`, `cuda`, `cuda:N`, `mps`, `xpu`."""
    precision: Literal["float32", "bf16"] = "float32"
    """`bf16` uses autocast on devices with bfloat16 arithmetic."""
    compile: bool = False
    """Compile the model with torch.compile."""
    cuda_graph: bool = True
    """On a GPU, record the kernels of the gradient once and replay them. Has no effect with compile, stateful, a slope
    schedule, plasticity or e-prop, which need the host."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores of this process."""
    slope_schedule: SlopeConfig = field(default_factory=SlopeConfig)
    """Schedule of the surrogate's slope."""
    rule: Literal["bptt", "eprop"] = "bptt"
    """Gradient through the neurons of the last block: backpropagation through time, or e-prop (snn_dt)."""
    eprop: EpropConfig = field(default_factory=EpropConfig)
    """Options of `rule: eprop`."""
    plasticity: PlasticityConfig = field(default_factory=PlasticityConfig)
    """Three-factor plasticity of the action head, applied after the optimizer step."""
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    """Limits of a spiking network's activity."""
    log_every: int = 50
    """Updates between two lines in the log."""
    eval_every: int = 0
    """Updates between two evaluations in the environment; 0 evaluates only after the last update."""
    save_every: int = 500
    """Updates between two checkpoints; the last update always saves."""


@dataclass(frozen=True)
class EvalConfig:
    """The evaluation in the environment."""

    env_id: str | None = None
    """Gymnasium environment; null takes the dataset's own. `module:Env-v0` imports the module and is allowed only as a
    flag; a file may name registered environments."""
    target_return: tuple[Target, ...] = ()
    """Target returns in environment units; `most` is the mean return of the best tenth of the data (of the highest of
    `model.goal_bins` bins). Empty takes the best return in the dataset."""
    episodes: int = 20
    """Episodes per target return, with reset seeds seed, seed + 1, ...; 0 trains without an environment."""
    seed: int = 10_000
    """Reset seed of the first episode."""
    context_length: int | None = None
    """Steps of the context in a decision, at most those of the training; fewer cost less. Null takes all. It is part of
    the checkpoint. Not for snn_dt_stream, which has a state."""
    num_envs: int = 32
    """Environments stepped in parallel."""
    max_steps: int | None = None
    """Steps after which an episode is cut. Null takes the environment's own limit; without one, ten times the longest
    episode of the data, at least 1,000."""


@dataclass(frozen=True)
class TrackConfig:
    """Experiment tracking besides the metrics.jsonl of the run folder."""

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    """`auto` is online with an API key and a reachable host, else offline."""
    tracker: tuple[Literal["wandb", "tensorboard", "trackio", "none"], ...] = ("wandb",)
    """Where metrics go beside metrics.jsonl, one or several: `wandb`, `tensorboard`, `trackio`, `none`."""
    video: bool = False
    """At the end also send a video of one episode (wandb, trackio). Rendering takes time."""
    project: str = "snn_dt"
    """Project in wandb or trackio."""
    entity: str | None = None
    """wandb user or team; null takes the account's default."""
    group: str | None = None
    """Group in wandb or trackio, for example the seeds of one experiment."""
    name: str | None = None
    """Name of the run in wandb or trackio; null takes the name of the run folder."""
    tags: tuple[str, ...] = ()
    """wandb tags."""


@dataclass(frozen=True)
class Config:
    """The configuration of a training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    track: TrackConfig = field(default_factory=TrackConfig)


def load_config(*paths: str | Path, trust: bool = False) -> Config:
    """Read YAML files. Each overrides those before it and the files that its `base` key names.

    Raises:
        ConfigError: a missing file, bad YAML, an unknown key, a value of a wrong type, or, without `trust`, an
            environment that imports a module.
    """
    config = strict.load(Config, *paths)
    if not trust:
        check_env_id("eval.env_id", config.eval.env_id)
    validate(config)
    return config


def check_env_id(name: str, env_id: str | None) -> None:
    """Refuse the name of an environment in a file if it imports a module.

    Raises:
        ConfigError: the name is `module:Env`.
    """
    if env_id is not None and ":" in env_id:
        raise ConfigError(
            f"{name}: expected the id of a registered environment in a file, found {env_id[:80]!r}, which imports a "
            f"module; type it as --{name} {env_id[:80]}, or trust the file with --trust-env-spec"
        )


def config_from_dict(values: dict[str, Any], source: str = "config") -> Config:
    """Build and check a `Config` from nested dictionaries; missing keys keep their defaults."""
    config = strict.build(Config, values, source)
    validate(config)
    return config


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return nested dictionaries of plain YAML and JSON values; inverse of `config_from_dict`."""
    return strict.to_dict(config)


def save_config(config: Any, path: Path) -> None:
    """Write a config, a dataclass of sections, as YAML, whole or not at all.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_atomically(path, yaml.safe_dump(strict.to_dict(config), sort_keys=False))
    except OSError as error:
        raise ConfigError(
            f"expected to write {path}, found: {error.strerror}; free space or choose another folder"
        ) from error


def validate(config: Config) -> None:
    """Check values and combinations of fields; raise a `ConfigError` that names the first wrong one."""
    d, t, e, s = config.data, config.train, config.eval, config.train.slope_schedule
    n_layers, adaptive, follows_loss = config.model.n_layers, s.kind == "adaptive", s.score == "loss"
    stream, rate = config.model.kind == "snn_dt_stream", t.budget.mean_firing_rate
    checks: list[Check] = [
        *model_checks(config.model),
        *rule_checks(config.model, t.rule, t.plasticity, t.compile, bool(t.budget.limits)),
        ("data.rtg_scale", d.rtg_scale is None or d.rtg_scale >= 1e-6, "at least 1e-6 or null", d.rtg_scale),
        ("data.validation_fraction", 0 <= d.validation_fraction < 1, "in [0, 1)", d.validation_fraction),
        ("data.filter_top", 0 < d.filter_top <= 1, "in (0, 1]", d.filter_top),
        ("data.oversample_top", 0 <= d.oversample_top < 1, "in [0, 1)", d.oversample_top),
        ("data.rtg_augment", 0 <= d.rtg_augment <= 1, "in [0, 1]", d.rtg_augment),
        ("data.relabel_goals", 0 <= d.relabel_goals <= 1, "in [0, 1]", d.relabel_goals),
        ("data.relabel_goals", not (d.relabel_goals and config.model.reads_return),
         "0 where a return is read: a replaced goal has none; use model.condition: goal", d.relabel_goals),
        ("data.frame_stack", 1 <= d.frame_stack <= 256, "in [1, 256]", d.frame_stack),
        ("data.split_seed", 0 <= d.split_seed < 2**32, "in [0, 2^32)", d.split_seed),
        ("train.steps", t.steps >= 1, "at least 1", t.steps),
        ("train.batch_size", t.batch_size >= 1, "at least 1", t.batch_size),
        ("train.accumulate", t.accumulate > 0 and not t.batch_size % t.accumulate, "dividing batch_size", t.accumulate),
        ("train.stateful", stream or not t.stateful, f"false for {config.model.kind}", t.stateful),
        ("train.accumulate", t.accumulate == 1 or not t.stateful, "1 where train.stateful is true", t.accumulate),
        ("train.learning_rate", t.learning_rate > 0, "above 0", t.learning_rate),
        ("train.weight_decay", t.weight_decay >= 0, "at least 0", t.weight_decay),
        ("train.warmup_steps", t.warmup_steps >= 0, "at least 0", t.warmup_steps),
        ("train.grad_clip", t.grad_clip >= 0, "at least 0", t.grad_clip),
        ("train.seed", 0 <= t.seed < 2**32, "in [0, 2^32)", t.seed),
        thread_check("train.threads", t.threads),
        ("train.slope_schedule.kind", s.kind == "fixed" or config.model.kind != "dense", "fixed for dense", s.kind),
        ("train.slope_schedule.last", s.last >= 1, "at least 1", s.last),
        ("train.slope_schedule.stages", s.stages >= 1, "at least 1", s.stages),
        ("train.slope_schedule.layers", len(s.layers) in (0, n_layers), f"{n_layers} factors or none", s.layers),
        ("train.slope_schedule.layers", all(x > 0 for x in s.layers), "factors above 0", s.layers),
        ("train.eval_every", t.eval_every > 0 or not adaptive, "above 0 for an adaptive slope", t.eval_every),
        ("eval.episodes", e.episodes > 0 or follows_loss or not adaptive, "above 0 for an adaptive slope", e.episodes),
        ("data.validation_fraction", d.validation_fraction > 0 or not (adaptive and follows_loss),
         "above 0 for a slope that follows the loss", d.validation_fraction),
        *[(f"train.budget.{name}", limit > 0, "above 0 or null", limit) for name, limit in t.budget.limits.items()],
        ("train.budget.mean_firing_rate", (rate or 0) <= 1, "in (0, 1]", rate),
        ("train.budget.weight", t.budget.weight > 0, "above 0", t.budget.weight),
        ("train.budget", config.model.kind != "dense" or not t.budget.limits, "no limits for dense", t.budget.limits),
        ("train.compile", not (t.compile and t.budget.limits), "false with a budget", t.compile),
        ("train.log_every", t.log_every >= 1, "at least 1", t.log_every),
        ("train.eval_every", t.eval_every >= 0, "at least 0", t.eval_every),
        ("train.save_every", t.save_every >= 1, "at least 1", t.save_every),
        ("eval.context_length", e.context_length is None or 1 <= e.context_length <= config.model.context_length,
         f"in [1, {config.model.context_length}] or null", e.context_length),
        ("eval.context_length", e.context_length is None or not (stream or config.model.attention_span),
         "null for snn_dt_stream and with an attention span", e.context_length),
        ("eval.episodes", e.episodes >= 0, "at least 0", e.episodes),
        ("eval.seed", 0 <= e.seed < 2**32, "in [0, 2^32)", e.seed),
        ("eval.num_envs", e.num_envs >= 1, "at least 1", e.num_envs),
        ("eval.max_steps", e.max_steps is None or e.max_steps >= 1, "at least 1 or null", e.max_steps),
    ]  # fmt: skip
    strict.check_all(checks)
