"""The folder of a suite's results: records in `runs/<plan>/`; made from them `runs.csv`, the table, the figures."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snn_dt import io
from snn_dt.errors import ConfigError
from snn_dt.jsonl import dumps, write_atomically
from snn_dt.report.results_table import Record
from snn_dt.report.style import png
from snn_dt.report.suite import page, short_table, to_csv
from snn_dt.report.suite_figures import returns_against_energy, returns_against_spikes, returns_against_target
from snn_dt.report.suite_marks import uncommitted
from snn_dt.report.suite_names import current, renamed

BEGIN, END = "<!-- table: scripts/reproduce.py -->", "<!-- end of table -->"
SHORT = re.compile(
    r"(?P<begin><!-- short table: (?P<plan>\w+): (?P<variants>[\w., -]+?) -->).*?(?P<end><!-- end of short table -->)",
    re.DOTALL,
)
TITLES = {
    "classic": "Classic control",
    "mujoco": "MuJoCo",
    "d4rl": "D4RL",
    "long": "Twice the updates on Hopper",
    "dropout": "With dropout on Hopper",
    "budget": "Held to a budget of activity",
    "stream": "The streaming policy, with fewer and fewer spikes",
}


def write_record(record: Record, path: Path) -> None:
    """Write one run's record, one key a line, without repetition; a warning says so if no commit holds what made it."""
    if uncommitted(record):
        print(
            f"warning: {path}: made by code that no commit holds (commit {record.get('commit')}); tables mark it",
            file=sys.stderr,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{json.dumps(key)}: {dumps(value)}" for key, value in without_repetition(record).items())
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")


COUNTS = ("macs", "acs", "neuron_updates", "spikes")
ONCE = ("by_module", "firing_rates", "energy_constants")


def without_repetition(record: Record) -> dict[str, Any]:
    """Return a record that tells once, not in every row of its evaluations, what each module does.

    `by_module` has the counts of the first row of `evaluation`, one list per module in the order of `columns`; a firing
    rate is spikes over neuron updates, an energy follows from the counts and `energy_constants`.
    """
    kept = {key: _without(value) for key, value in record.items()}
    first = next(iter(record["evaluation"]), {})
    if modules := first.get("by_module"):
        counts = {name: [row[column] or 0 for column in COUNTS] for name, row in modules.items()}
        kept |= {"energy_constants": first["energy_constants"], "by_module": {"columns": list(COUNTS), **counts}}
    return kept


def _without(value: Any) -> Any:
    """Return rows, or one row, of an evaluation without what is told once."""
    if isinstance(value, list):
        return [_without(row) for row in value]
    if isinstance(value, dict) and "return_mean" in value:
        return {key: item for key, item in value.items() if key not in ONCE}
    return value


def read_record(path: Path) -> dict[str, Any]:
    """Return one run's record, under the current name of its variant.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        found = io.read_json(path)
        missing = [name for name in ("trial", "variant", "seed", "config", "evaluation") if name not in found]
    except (OSError, ValueError, TypeError) as error:
        missing = [" ".join(str(error).split())]
    if missing:
        raise ConfigError(
            f"{path}: expected a run's record, found it damaged ({', '.join(missing)}); put it back, or delete it and "
            "make the run again"
        )
    return renamed(dict(found))


def write_table(
    results: Path, orders: Mapping[str, Sequence[tuple[str, str]]], published: Mapping[str, Sequence[str]]
) -> None:
    """Write runs.csv, the table between its marks in README.md, and the figures, of all records.

    Args:
        results: the folder.
        orders: for each plan the (task, variant) of its rows.
        published: notes, see `snn_dt.report.suite.page`.

    Raises:
        ConfigError: no records, or a README.md without the marks.
    """
    plans = {plan: read_records(results / "runs" / plan, order) for plan, order in orders.items()}
    records = [record for own in plans.values() for record in own]
    if not records:
        raise ConfigError(f"expected records in {results / 'runs'}, found none; run the plan first")
    readme = results / "README.md"
    text = readme.read_text() if readme.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ConfigError(f"{readme}: expected the marks {BEGIN} and {END} around the table, found no such pair")
    parts = []
    for plan, own in plans.items():
        if own:
            parts.append(page(TITLES.get(plan, plan), own, published, plan))
            parts += [f"![{name}]({path.relative_to(results)})\n" for name, path in _draw(plan, own, results).items()]
    write_atomically(results / "runs.csv", to_csv(records))
    write_atomically(readme, f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")


def write_short_tables(readme: Path, results: Path, orders: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Write a short table of a plan's records where a page has room for one; a page without such marks stays.

    ```
    <!-- short table: classic: dense, snn_dt-full -->
    <!-- end of short table -->
    ```
    """
    if not readme.exists():
        return

    def filled(match: re.Match[str]) -> str:
        plan, variants = match["plan"], [current(name) for name in match["variants"].split(", ")]
        text = short_table(read_records(results / "runs" / plan, orders[plan]), variants)
        return f"{match['begin']}\n\n{text}\n\n{match['end']}"

    write_atomically(readme, SHORT.sub(filled, readme.read_text()))


def read_records(folder: Path, order: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the records in a folder: by task and variant as in `order` (others last), then by seed."""
    tasks, variants = (list(dict.fromkeys(names)) for names in zip(*order, strict=True))

    def key(record: Record) -> tuple[Any, ...]:
        task, variant = str(record["trial"]).split(f"-{record['variant']}-")[0], record["variant"]
        return _place(tasks, task), _place(variants, variant), record["seed"]

    return sorted((read_record(path) for path in folder.glob("*.json")), key=key)


def _place(known: list[str], name: str) -> tuple[int, str]:
    return known.index(name) if name in known else len(known), name


def _draw(plan: str, records: Sequence[Record], results: Path) -> dict[str, Path]:
    shown = {"return over energy of a decision": ("return-vs-energy", returns_against_energy)}
    if any(record["evaluation"][0]["spikes_per_decision"] for record in records):
        shown["return over spikes of a decision"] = ("return-vs-spikes", returns_against_spikes)
    if any(len(record["evaluation"]) > 1 for record in records):
        shown["return over return asked for"] = ("return-vs-target", returns_against_target)
    files = {}
    (results / "figures").mkdir(parents=True, exist_ok=True)
    for text, (name, figure) in shown.items():
        path = results / "figures" / f"{plan}-{name}.png"
        write_atomically(path, png(figure(records), dpi=110))
        files[f"{TITLES.get(plan, plan)}: {text}"] = path
    return files
