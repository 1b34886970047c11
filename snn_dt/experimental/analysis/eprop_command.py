"""`snn-dt analyse eprop`: what e-prop leaves of a gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from snn_dt.cli.arguments import parse
from snn_dt.cli.evaluate import writable_folder
from snn_dt.cli.streams import console
from snn_dt.config import load_config
from snn_dt.errors import ConfigError
from snn_dt.experimental.analysis.command import load_policy, set_up, write_analysis


@dataclass(frozen=True)
class EpropArguments:
    """Compare e-prop's gradient with that of backpropagation through time, layer by layer (kind snn_dt)."""

    out: Path
    """Folder for eprop.json, eprop.csv and eprop.png."""
    checkpoint: Path | None = None
    """Checkpoint or run folder, looked at on its own training data."""
    config: tuple[Path, ...] = ()
    """YAML files, each laid over those before it, in place of a checkpoint: the model before its first update."""
    coding: Literal["rate", "spikes"] | None = None
    """Another way through the layers than the model's own; its weights serve both."""
    batches: int = 10
    """Batches to average over."""
    batch_size: int = 64
    """Windows per batch."""
    dataset: str | None = None
    """Other data than the checkpoint's own, named as in a config."""
    seed: int = 0
    """Seed of the batches, of random feedback, and of the weights of an untrained model."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores this process may use."""


def analyse_eprop(arguments: Sequence[str]) -> None:
    """Run `snn-dt analyse eprop ...`."""
    args = parse(EpropArguments, arguments, "snn-dt analyse eprop")
    if min(args.threads, args.seed) < 0 or min(args.batch_size, args.batches) < 1:
        raise ConfigError("expected --batches and --batch_size of at least 1 and no negative number; see --help")
    if (args.checkpoint is None) == (not args.config):
        raise ConfigError("expected either --checkpoint or --config, found both or none; see --help")
    from snn_dt.experimental.analysis.analysis_figures import eprop_figure
    from snn_dt.experimental.analysis.batches import training_batches, training_loss
    from snn_dt.experimental.analysis.eprop_gradients import eprop_rows
    from snn_dt.task import untrained_policy, with_propagation

    dataset = args.dataset
    if args.checkpoint is None:
        config = load_config(*args.config)
        dataset = dataset or config.data.dataset
        policy = untrained_policy(config, dataset, args.seed).to(set_up(args.device, args.threads))
    else:
        policy = load_policy(args.checkpoint, args.device, args.threads)
    if policy.model.config.kind != "snn_dt":
        raise ConfigError(f"expected a model of kind snn_dt, found {policy.model.config.kind}; choose another one")
    if args.coding is not None:
        policy = with_propagation(policy, args.coding)
    batch = training_batches(policy, dataset, args.batch_size, args.seed)
    losses = (lambda i=i: training_loss(policy, batch(i)) for i in range(args.batches))
    writable_folder(args.out)
    rows = eprop_rows(policy.model, losses, args.seed)
    title = f"{policy.model.config.coding}, {policy.spec.dataset_id}"
    write_analysis(args.out / "eprop", rows, eprop_figure(rows, title))
    _print(rows)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="cosine to the gradient of backpropagation through time (and relative size)")
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    for name in ("layer", *rules):
        table.add_column(name, justify="left" if name == "layer" else "right")
    found = {(row["layer"], row["rule"]): f"{row['cosine']:.4f} ({row['size']:.2f})" for row in rows}
    for layer in dict.fromkeys(row["layer"] for row in rows):
        table.add_row(layer, *(found[layer, rule] for rule in rules))
    console(soft_wrap=False, width=120).print(table)
