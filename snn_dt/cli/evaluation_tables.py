"""What `snn-dt evaluate` and `snn-dt train` print of an evaluation; it fits a terminal of 80 columns."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from snn_dt.command import plain_console
from snn_dt.evaluation.calibration import Calibration, summary
from snn_dt.training.console import success_text

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80
"""Columns that are printed where there is no terminal, and at least."""


def print_evaluation(rows: list[dict[str, Any]], found: Calibration | None = None) -> None:
    """Print the rows of an evaluation as two tables, returns and counts, and its calibration if it has one."""
    first = rows[0]
    shown = plain_console(soft_wrap=False)
    shown.width = max(shown.width, WIDTH) if sys.stdout.isatty() else WIDTH
    _print_returns(shown, rows)
    source = first["score_reference"]
    shown.print()
    shown.print(f"score: 0 and 100 as in {source}" if source else "score: none, no reference returns are known")
    if found is not None:
        shown.print(summary(found))
    if first["spikes_per_decision"] is None:
        shown.print(
            "nothing was counted (--no-count): spikes, operations and energy are null in JSON; "
            f"{first['decisions_per_second']:.0f} decisions per second"
        )
    else:
        _print_counts(shown, rows)
        shown.print()
        shown.print(
            "vs kept, vs DT: energy divided by that of a Decision Transformer of the same width and depth on three "
            "tokens per step, which keeps keys and values, or computes its window again"
        )
    for row in rows:
        for layer, flag in row["layer_flags"].items():
            rate = row["firing_rates"][layer]
            shown.print(f"target {row['target_return']:g}: layer {layer} is {flag} (firing rate {rate:.2g})")
        if learned := row.get("plasticity"):
            shown.print(f"target {row['target_return']:g}: the head changed by {learned['change']:.2g} of its norm")
    if first["by_module"]:
        _print_parts(shown, first)


def evaluation_line(row: dict[str, Any]) -> str:
    """Return one log line with the results of a target return."""
    low, high = row["return_interval"]
    return (
        f"target {row['target_return']:g}: return {row['return_mean']:.5g} [{low:.5g}, {high:.5g}] over "
        f"{row['episodes']} episodes{success_text(row)}"
    )


def _new_table(*columns: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "part" else "right", overflow="fold")
    return table


def _print_returns(shown: Console, rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    # A table's own title would be broken at the width of the table.
    shown.print(f"\n{first['env_id']}, {first['episodes']} episodes per target, reset seeds from {first['seed']}\n")
    tells = any(row["success_rate"] is not None for row in rows)
    table = _new_table("target", "return", "95 % interval", "score", *(["success", "95 % interval"] if tells else []))
    for row in rows:
        score = row["normalized_score"]
        low, high = row["return_interval"]
        table.add_row(
            f"{row['target_return']:g}",
            f"{row['return_mean']:.1f} ± {row['return_std']:.1f}",
            f"{low:.1f} to {high:.1f}",
            "-" if score is None else f"{score:.1f}",
            *(_success(row) if tells else []),
        )
    shown.print(table)


def _success(row: dict[str, Any]) -> tuple[str, str]:
    """Return the success rate and its interval."""
    bounds = row["success_interval"]
    return ("-", "-") if bounds is None else (f"{row['success_rate']:.0%}", f"{bounds[0]:.0%} to {bounds[1]:.0%}")


def _print_counts(shown: Console, rows: list[dict[str, Any]]) -> None:
    shown.print("\nspikes, operations and energy of one decision\n")
    table = _new_table("target", "spikes", "rate", "M MACs", "M ACs", "µJ", "vs kept", "vs DT", "dec./s")
    for row in rows:
        table.add_row(
            f"{row['target_return']:g}",
            f"{row['spikes_per_decision']:.0f}",
            f"{row['firing_rate']:.3f}",
            *(f"{row[name] / 1e6:.3f}" for name in ("macs_per_decision", "acs_per_decision", "energy_pj_per_decision")),
            *(_percent(row.get(name)) for name in ("energy_vs_cached_dt", "energy_vs_dt")),
            f"{row['decisions_per_second']:.0f}",
        )
    shown.print(table)


def _print_parts(shown: Console, row: dict[str, Any]) -> None:
    """Print the energy of one decision by part of the model."""
    from snn_dt.energy import by_part

    shown.print(f"\none decision at target {row['target_return']:g}, {row['context_steps']:.1f} steps of context\n")
    table = _new_table("part", "MACs", "ACs", "neuron updates", "spikes", "µJ", "share")
    for part, costs in by_part(row["by_module"]).items():
        if costs["energy_pj"]:
            counts = (costs[name] for name in ("macs", "acs", "neuron_updates", "spikes"))
            energy, share = costs["energy_pj"] / 1e6, costs["energy_pj"] / row["energy_pj_per_decision"]
            table.add_row(part, *(f"{count:,.0f}" for count in counts), f"{energy:,.3f}", _percent(share))
    shown.print(table)
    shown.print()
    traffic, price = row["memory_bytes_per_decision"] / 1e3, row["memory_pj_per_decision"] / 1e6
    shown.print(
        f"memory: {row['parameter_bytes'] / 1e3:,.0f} kB of weights, {row['state_bytes'] / 1e3:,.0f} kB of state; "
        f"traffic {traffic:,.0f} kB, {price:,.2f} µJ, not in the energy"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
