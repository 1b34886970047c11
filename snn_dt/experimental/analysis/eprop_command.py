"""`snn-dt analyse eprop`: compare the gradient of e-prop with that of backpropagation through time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from snn_dt.command import Command, plain_console
from snn_dt.config import Config, load_config, validate
from snn_dt.errors import ConfigError
from snn_dt.experimental.analysis.files import load_policy, model_config, set_up, write_analysis
from snn_dt.io import writable_folder

if TYPE_CHECKING:
    from snn_dt.evaluation.policy import Policy


@dataclass(frozen=True)
class EpropArguments:
    """Compare e-prop's gradient with that of backpropagation through time in each layer (kind snn_dt)."""

    out: Path
    """Folder for eprop.json, eprop.csv and eprop.png."""
    checkpoint: Path | None = None
    """Checkpoint or run folder, analysed on its own training data."""
    config: tuple[Path, ...] = ()
    """YAML files in place of a checkpoint: the model before its first update. Each file overrides those before it."""
    coding: Literal["rate", "spikes"] | None = None
    """Another coding between layers than the model's own, with the same weights."""
    batches: int = 10
    """Batches to average over."""
    batch_size: int = 64
    """Windows per batch."""
    dataset: str | None = None
    """Another dataset than the checkpoint's own, named as in a config."""
    seed: int = 0
    """Seed of the batches, of random feedback, and of the weights of an untrained model."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, `mps`, `xpu`."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores this process may use."""


def _eprop(args: EpropArguments) -> None:
    if min(args.threads, args.seed) < 0 or min(args.batch_size, args.batches) < 1:
        raise ConfigError("expected --batches and --batch_size of at least 1 and no negative number; see --help")
    if (args.checkpoint is None) == (not args.config):
        raise ConfigError("expected either --checkpoint or --config, found both or none; see --help")
    from snn_dt.experimental.analysis.analysis_figures import eprop_figure
    from snn_dt.experimental.analysis.batches import training_batches, training_loss
    from snn_dt.experimental.analysis.eprop_gradients import eprop_rows

    dataset = args.dataset
    if args.checkpoint is None:
        config = load_config(*args.config)
        if dataset is not None:
            config = replace(config, data=replace(config.data, dataset=dataset))
        dataset = config.data.dataset
        policy = _untrained(config, args.seed).to(set_up(args.device, args.threads))
    else:
        policy = load_policy(args.checkpoint, args.device, args.threads)
    if (kind := model_config(policy).kind) != "snn_dt":
        raise ConfigError(f"expected a model of kind snn_dt, found {kind}; choose another one")
    if args.coding is not None:
        policy = _with_coding(policy, args.coding)
    batch = training_batches(policy, dataset, args.batch_size, args.seed)
    losses = (lambda i=i: training_loss(policy, batch(i)) for i in range(args.batches))
    writable_folder(args.out)
    rows = eprop_rows(policy.model, losses, args.seed)
    title = f"{model_config(policy).coding}, {policy.spec.dataset_id}"
    write_analysis(args.out / "eprop", rows, eprop_figure(rows, title))
    _print(rows)


def _with_coding(policy: Policy, coding: Literal["rate", "spikes"]) -> Policy:
    """Return a policy with the same weights and another coding between layers."""
    from snn_dt.evaluation.policy import Policy
    from snn_dt.models import build_model

    config, old = replace(model_config(policy), coding=coding), cast(Any, policy.model)
    validate(Config(model=config))
    model = build_model(config, old.task)
    model.load_state_dict(policy.model.state_dict())
    return Policy(model.to(policy.device), policy.spec, policy.state_mean, policy.state_std, policy.provenance)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="cosine to the gradient of backpropagation through time (and relative size)")
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    for name in ("layer", *rules):
        table.add_column(name, justify="left" if name == "layer" else "right")
    found = {(row["layer"], row["rule"]): f"{row['cosine']:.4f} ({row['size']:.2f})" for row in rows}
    for layer in dict.fromkeys(row["layer"] for row in rows):
        table.add_row(layer, *(found[layer, rule] for rule in rules))
    plain_console(soft_wrap=False, width=120).print(table)


EPROP = Command(EpropArguments, _eprop)


def _untrained(config: Config, seed: int) -> Policy:
    """Return a policy with the weights that training from `seed` starts with."""
    import torch

    from snn_dt.models import build_model
    from snn_dt.task import load_trajectories, make_policy, rtg_scale, shape_of

    trajectories = load_trajectories(config)
    scale = rtg_scale(config, trajectories)
    torch.manual_seed(seed)
    model = build_model(config.model.resolved(), shape_of(config, trajectories, scale))
    return make_policy(model, trajectories, config, scale)
