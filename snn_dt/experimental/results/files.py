"""Write `runs.csv` and the tables and figures of `results/` from the records in `results/runs/<plan>/`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from snn_dt.errors import ConfigError
from snn_dt.io import write_atomically
from snn_dt.experimental.results.runs_csv import to_csv
from snn_dt.experimental.results.figures import returns_against_energy, returns_against_spikes, returns_against_target
from snn_dt.experimental.results.page import page, short_table
from snn_dt.experimental.results.records import Record, current, read_records
from snn_dt.report.style import png

BEGIN, END = "<!-- table: scripts/reproduce.py -->", "<!-- end of table -->"
SHORT_TABLE = re.compile(
    r"(?P<begin><!-- short table: (?P<plan>\w+): (?P<variants>[\w., -]+?) -->).*?(?P<end><!-- end of short table -->)",
    re.DOTALL,
)
TITLES = {
    "classic": "Classic control",
    "mujoco": "MuJoCo",
    "d4rl": "D4RL",
    "long": "Twice the updates on Hopper",
    "dropout": "With dropout on Hopper",
    "budget": "With a budget of synaptic operations",
    "stream": "The streaming policy with budgets",
}


def write_table(
    results: Path, orders: Mapping[str, Sequence[tuple[str, str]]], published: Mapping[str, Sequence[str]]
) -> None:
    """Write runs.csv, the figures and the tables between the marks in README.md.

    Args:
        results: the folder of results.
        orders: (task, variant) of the rows of each plan.
        published: notes; see `snn_dt.experimental.results.page.page`.

    Raises:
        ConfigError: there are no records or README.md lacks the marks.
    """
    plans = {plan: read_records(results / "runs" / plan, order) for plan, order in orders.items()}
    records = [record for own in plans.values() for record in own]
    if not records:
        raise ConfigError(f"expected records in {results / 'runs'}, found none; run the plan first")
    readme = results / "README.md"
    # Text outside the marks is written by hand and kept.
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
    """Write short tables of records between the marks in a page. A page without marks is not changed.

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

    write_atomically(readme, SHORT_TABLE.sub(filled, readme.read_text()))


def _draw(plan: str, records: Sequence[Record], results: Path) -> dict[str, Path]:
    # A plan may have no spiking model and only one target; such figures would be empty.
    shown = {"return over energy of a decision": ("return-vs-energy", returns_against_energy)}
    if any(record["evaluation"][0]["spikes_per_decision"] for record in records):
        shown["return over spikes of a decision"] = ("return-vs-spikes", returns_against_spikes)
    if any(len(record["evaluation"]) > 1 for record in records):
        shown["return over target return"] = ("return-vs-target", returns_against_target)
    files = {}
    (results / "figures").mkdir(parents=True, exist_ok=True)
    for text, (name, figure) in shown.items():
        path = results / "figures" / f"{plan}-{name}.png"
        write_atomically(path, png(figure(records), dpi=110))
        files[f"{TITLES.get(plan, plan)}: {text}"] = path
    return files
