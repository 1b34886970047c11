"""`snn-dt analyse`: gradients by surrogate slope, over time and of e-prop."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_dt.command import Command, plain_console
from snn_dt.errors import ConfigError
from snn_dt.experimental.analysis.eprop_command import EPROP
from snn_dt.experimental.analysis.files import load_policy, model_config, set_up, write_analysis
from snn_dt.io import writable_folder


@dataclass(frozen=True)
class GradientArguments:
    """Measure the size and direction of each layer's gradient over surrogate slopes."""

    out: Path
    """Folder for gradients.json, gradients.csv and gradients.png."""
    checkpoint: Path | None = None
    """Checkpoint or run folder, on its own training data. Null takes the network of arXiv 2510.24461 on noise."""
    slopes: tuple[float, ...] = (1, 2, 5, 10, 25, 50, 100)
    """Slopes k."""
    reference: float = 100.0
    """Slope whose gradient is the reference for directions."""
    draws: int = 0
    """Batches or networks to average over. 0 takes 10 batches or 100 networks."""
    batch_size: int = 64
    """Windows per batch."""
    dataset: str | None = None
    """Another dataset than the checkpoint's own, named as in a config."""
    seed: int = 0
    """Seed of the batches or networks."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, `mps`, `xpu`. Without a checkpoint it is the CPU."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores this process may use."""


@dataclass(frozen=True)
class StabilityArguments:
    """Measure for each layer of neurons whether state changes and gradients grow or decay over time."""

    checkpoint: Path
    """Checkpoint or run folder, analysed on its own training data."""
    out: Path
    """Folder for stability.json and stability.png."""
    batch_size: int = 16
    """Windows to average over; windows with pads are left out."""
    dataset: str | None = None
    """Another dataset than the checkpoint's own, named as in a config."""
    seed: int = 0
    """Seed of the batch."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`, `mps`, `xpu`."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores this process may use."""


def _gradients(args: GradientArguments) -> None:
    slopes = (*args.slopes, args.reference)
    if min(args.draws, args.threads, args.seed) < 0 or args.batch_size < 1 or len(slopes) < 2 or min(slopes) <= 0:
        raise ConfigError(
            "expected slopes above 0, at least one, --batch_size of at least 1, no negative number; see --help"
        )
    from snn_dt.experimental.analysis.analysis_figures import gradient_figure
    from snn_dt.experimental.analysis.batches import training_batches, training_loss
    from snn_dt.experimental.analysis.gradients import gradient_rows, paper_draws

    if args.checkpoint is None:
        set_up("cpu", args.threads)
        draws, title = paper_draws(args.draws or 100, args.seed), "four spiking layers, noise"
    else:
        policy = load_policy(args.checkpoint, args.device, args.threads)
        batch, model = training_batches(policy, args.dataset, args.batch_size, args.seed), policy.model
        draws = ((model, lambda i=i: training_loss(policy, batch(i))) for i in range(args.draws or 10))  # type: ignore[misc]  # i is an int
        title = f"{model_config(policy).kind}, {policy.spec.dataset_id}"
    writable_folder(args.out)
    rows = gradient_rows(draws, args.slopes, args.reference)
    write_analysis(args.out / "gradients", rows, gradient_figure(rows, title))
    _print_gradients(rows)


def _stability(args: StabilityArguments) -> None:
    if min(args.threads, args.seed) < 0 or args.batch_size < 1:
        raise ConfigError("expected --batch_size of at least 1 and no negative number; see --help")
    from snn_dt.experimental.analysis.analysis_figures import stability_figure
    from snn_dt.experimental.analysis.batches import training_batches, training_loss, whole_windows
    from snn_dt.experimental.analysis.stability import stability_rows

    policy = load_policy(args.checkpoint, args.device, args.threads)
    kind = model_config(policy).kind
    if kind == "dense":
        raise ConfigError(f"expected a model with spiking neurons, found none in {args.checkpoint}; choose another one")
    writable_folder(args.out)
    batch = whole_windows(training_batches(policy, args.dataset, args.batch_size, args.seed)(0))
    rows = stability_rows(policy.model, lambda: training_loss(policy, batch))
    write_analysis(args.out / "stability", rows, stability_figure(rows, f"{kind}, {policy.spec.dataset_id}"))
    _print_stability(rows)


def _print_gradients(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    slopes = sorted({row["slope"] for row in rows})
    table = Table(title=f"mean |dL/dW| and cosine to the gradient at k = {rows[0]['reference']:g}")
    table.add_column("layer")
    for slope in slopes:
        table.add_column(f"k = {slope:g}", justify="right")
    for name, own in itertools.groupby(rows, key=lambda row: row["layer"]):
        table.add_row(name, *(f"{row['magnitude']:.1e} {row['cosine']:.2f}" for row in own))
    plain_console(soft_wrap=False, width=max(120, 45 + 14 * len(slopes))).print(table)


def _print_stability(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title="first and last step of each layer's own time")
    for name in ("layer", "rate", "dead", "saturated", "radius", "|dL/dV|", "Lyapunov", "decay (leak's)", "g_crit"):
        table.add_column(name, justify="left" if name == "layer" else "right")
    for row in rows:
        radius, gradient = row["spectral_radius"], row["state_gradient"]
        table.add_row(
            row["layer"],
            f"{row['firing_rate']:.3f}",
            f"{row['dead']:.1%}",
            f"{row['saturated']:.1%}",
            f"{radius[0]:.3f} {radius[-1]:.3f}",
            f"{gradient[0]:.1e} {gradient[-2:][0]:.1e}",  # no loss depends on the state after the last step
            f"{row['lyapunov']:.3f}",
            f"{row['decay_measured'][-1]:.3g} ({row['decay_predicted'][-1]:.3g})",
            f"{row['critical_gain']:.3g}",
        )
    plain_console(soft_wrap=False, width=150).print(table)


ANALYSE = {
    "gradients": Command(GradientArguments, _gradients),
    "stability": Command(StabilityArguments, _stability),
    "eprop": EPROP,
}
"""The commands of `snn-dt analyse`."""
