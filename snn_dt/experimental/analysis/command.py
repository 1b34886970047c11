"""`snn-dt analyse`: what a surrogate's slope does to gradients, what time does to them, what e-prop leaves of them."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_dt.cli.arguments import parse
from snn_dt.cli.evaluate import writable_folder, write_file, write_json
from snn_dt.cli.streams import console
from snn_dt.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class GradientArguments:
    """Measure size and direction of every layer's gradient over surrogate slopes."""

    out: Path
    """Folder for gradients.json, gradients.csv and gradients.png."""
    checkpoint: Path | None = None
    """Checkpoint or run folder, on its own training data; none takes the network of arXiv 2510.24461 on noise."""
    slopes: tuple[float, ...] = (1, 2, 5, 10, 25, 50, 100)
    """Slopes k."""
    reference: float = 100.0
    """Slope of the gradient that directions are compared with."""
    draws: int = 0
    """Batches, or networks, to average over; 0 takes 10 batches or 100 networks."""
    batch_size: int = 64
    """Windows per batch."""
    dataset: str | None = None
    """Other data than the checkpoint's own, named as in a config."""
    seed: int = 0
    """Seed of the batches, or of the networks."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`; without a checkpoint it is the CPU."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores this process may use."""


@dataclass(frozen=True)
class StabilityArguments:
    """Report on every layer of neurons: do changes of its state, and with them gradients, grow or die over its time?"""

    checkpoint: Path
    """Checkpoint or run folder, looked at on its own training data."""
    out: Path
    """Folder for stability.json and stability.png."""
    batch_size: int = 16
    """Windows to average over; those with pads are left out."""
    dataset: str | None = None
    """Other data than the checkpoint's own, named as in a config."""
    seed: int = 0
    """Seed of the batch."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N`."""
    threads: int = 0
    """CPU threads of torch; 0 takes all cores this process may use."""


def analyse_main(arguments: Sequence[str]) -> int:
    """Run `snn-dt analyse NAME ...`."""
    from snn_dt.experimental.analysis.eprop_command import analyse_eprop

    commands = {"gradients": _gradients, "stability": _stability, "eprop": analyse_eprop}
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(
            "usage: snn-dt analyse COMMAND ...\n\n  " + "\n  ".join(commands) + "\n\nEach shows its flags with --help."
        )
        return 0
    if name not in commands:
        raise ConfigError(f"expected one of {', '.join(commands)}, found {name!r}{did_you_mean(name, commands)}")
    commands[name](rest)
    return 0


def _gradients(arguments: Sequence[str]) -> None:
    args = parse(GradientArguments, arguments, "snn-dt analyse gradients")
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
        batch = training_batches(policy, args.dataset, args.batch_size, args.seed)
        draws = ((policy.model, lambda i=i: training_loss(policy, batch(i))) for i in range(args.draws or 10))
        title = f"{policy.model.config.kind}, {policy.spec.dataset_id}"
    writable_folder(args.out)
    rows = gradient_rows(draws, args.slopes, args.reference)
    write_analysis(args.out / "gradients", rows, gradient_figure(rows, title))
    _print_gradients(rows)


def _stability(arguments: Sequence[str]) -> None:
    args = parse(StabilityArguments, arguments, "snn-dt analyse stability")
    if min(args.threads, args.seed) < 0 or args.batch_size < 1:
        raise ConfigError("expected --batch_size of at least 1 and no negative number; see --help")
    from snn_dt.experimental.analysis.analysis_figures import stability_figure
    from snn_dt.experimental.analysis.batches import training_batches, training_loss, whole_windows
    from snn_dt.experimental.analysis.stability import stability_rows

    policy = load_policy(args.checkpoint, args.device, args.threads)
    if policy.model.config.kind == "dense":
        raise ConfigError(f"expected a model with spiking neurons, found none in {args.checkpoint}; choose another one")
    writable_folder(args.out)
    batch = whole_windows(training_batches(policy, args.dataset, args.batch_size, args.seed)(0))
    rows = stability_rows(policy.model, lambda: training_loss(policy, batch))
    write_analysis(
        args.out / "stability", rows, stability_figure(rows, f"{policy.model.config.kind}, {policy.spec.dataset_id}")
    )
    _print_stability(rows)


def load_policy(checkpoint: Path, device: str, threads: int) -> Any:
    """Load a checkpoint onto a device and set the threads."""
    from snn_dt.checkpoint import from_pretrained

    return from_pretrained(checkpoint, str(set_up(device, threads)))


def set_up(device: str, threads: int) -> Any:
    """Set the threads and return the device."""
    from snn_dt.device import choose_device, keep_memory, set_threads

    keep_memory()
    set_threads(threads)
    return choose_device(device)


def _print_gradients(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    slopes = sorted({row["slope"] for row in rows})
    table = Table(title=f"mean |dL/dW| and cosine to the gradient at k = {rows[0]['reference']:g}")
    table.add_column("layer")
    for slope in slopes:
        table.add_column(f"k = {slope:g}", justify="right")
    for name, own in itertools.groupby(rows, key=lambda row: row["layer"]):
        table.add_row(name, *(f"{row['magnitude']:.1e} {row['cosine']:.2f}" for row in own))
    console(soft_wrap=False, width=max(120, 45 + 14 * len(slopes))).print(table)


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
            f"{gradient[0]:.1e} {gradient[-2:][0]:.1e}",  # nothing depends on the state after the last step
            f"{row['lyapunov']:.3f}",
            f"{row['decay_measured'][-1]:.3g} ({row['decay_predicted'][-1]:.3g})",
            f"{row['critical_gain']:.3g}",
        )
    console(soft_wrap=False, width=150).print(table)


def write_analysis(path: Path, rows: list[dict[str, Any]], figure: Any) -> None:
    """Write rows as JSON, as CSV too where a row is flat, and their figure."""
    from snn_dt.report.style import png

    picture = png(figure)
    write_json(rows, path.with_suffix(".json"))
    write_file(path.with_suffix(".png"), picture)
    if not any(isinstance(value, list) for value in rows[0].values()):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(path.with_suffix(".csv"), text.getvalue())
    print(f"numbers: {path}.json\nfigure: {path}.png")
