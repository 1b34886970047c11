"""Records of runs: one JSON file per run in `runs/<plan>/`.

`evaluation` holds the rows of the last checkpoint, one per target return. The first row is the headline.
`best_evaluation` holds the rows of the best checkpoint of the training. `snn-dt trial` writes a record.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from snn_dt import io
from snn_dt.errors import ConfigError
from snn_dt.io import write_atomically
from snn_dt.jsonl import dumps
from snn_dt.experimental.results.cached_baseline import with_cached_baseline

Record = Mapping[str, Any]

UNCOMMITTED_MARK = "‡"
UNCOMMITTED_NOTE = (
    f"{UNCOMMITTED_MARK} the number of seeds that were made with uncommitted changes (`-dirty` after the commit in the "
    "record). The commit alone may not reproduce them. Their dots are hollow in figures."
)
COUNTS = ("macs", "acs", "neuron_updates", "spikes")
RECORD_KEYS = ("by_module", "firing_rates", "energy_constants")
"""Keys of an evaluation row that a record holds once."""
ALIASES = {
    "snn_dt-sparse": "snn_dt-budget-0.5M",
    "snn_dt-sparse128": "snn_dt-budget-4M",
    "snn_dt-6500k": "snn_dt-budget-6.5M",
    "snn_dt-1000k": "snn_dt-budget-1M",
    **{f"snn_dt-{limit}": f"snn_dt-budget-{limit}" for limit in ("300k", "100k", "30k", "10k", "3k")},
    **{f"snn_dt_stream-{limit}": f"snn_dt_stream-budget-{limit}" for limit in ("10k", "3k", "1k", "300")},
    **{f"{kind}-best": f"{kind}-top10" for kind in ("dense", "snn_dt", "snn_dt_stream")},
    "snn_dt_stream-plain": "snn_dt_stream-original-returns",
    "snn_dt_stream-silent": "snn_dt_stream-no-spikes",
}
"""Current names of variants by their names in 0.1.0."""


def write_record(record: Record, path: Path) -> None:
    """Write a record with one key per line. Warn if no commit holds the code that made it."""
    if uncommitted(record):
        print(
            f"warning: {path}: made by code that no commit holds (commit {record.get('commit')}); tables mark it",
            file=sys.stderr,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"{json.dumps(key)}: {dumps(value)}" for key, value in without_repetition(record).items())
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")


def without_repetition(record: Record) -> dict[str, Any]:
    """Return a record with the counts of each module once instead of in every evaluation row.

    `by_module` has the counts of the first row of `evaluation`, as one list per module in the order of `columns`. A
    firing rate is spikes over neuron updates. An energy follows from the counts and `energy_constants`.
    """
    kept = {key: _without(value) for key, value in record.items()}
    first: Mapping[str, Any] = next(iter(record["evaluation"]), {})
    if modules := first.get("by_module"):
        # Lists instead of objects: the column names are stored once.
        counts = {name: [row[column] or 0 for column in COUNTS] for name, row in modules.items()}
        kept |= {"energy_constants": first["energy_constants"], "by_module": {"columns": list(COUNTS), **counts}}
    return kept


def _without(value: Any) -> Any:
    """Return evaluation rows without the keys in `RECORD_KEYS`, and any other value as it is."""
    if isinstance(value, list):
        return [_without(row) for row in value]
    if isinstance(value, dict) and "return_mean" in value:
        return {key: item for key, item in value.items() if key not in RECORD_KEYS}
    return value


def read_record(path: Path) -> dict[str, Any]:
    """Read a record, give its variant the current name and add what records of older versions lack.

    Raises:
        ConfigError: the file is damaged.
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
    return with_cached_baseline(renamed(dict(found)))


def read_records(folder: Path, order: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the records in a folder, sorted by task and variant as in `order`, then by seed."""
    tasks, variants = (list(dict.fromkeys(names)) for names in zip(*order, strict=True))

    def key(record: Record) -> tuple[Any, ...]:
        # A trial is named TASK-VARIANT-seedN.
        task, variant = str(record["trial"]).split(f"-{record['variant']}-")[0], record["variant"]
        return _place(tasks, task), _place(variants, variant), record["seed"]

    return sorted((read_record(path) for path in folder.glob("*.json")), key=key)


def _place(known: list[str], name: str) -> tuple[int, str]:
    return known.index(name) if name in known else len(known), name


def uncommitted(record: Record) -> bool:
    """Return whether no commit holds the code that made the record."""
    commit = record.get("commit")
    return not commit or str(commit).endswith("-dirty")


def gone(record: Record, root: Path) -> list[str]:
    """Return the config files in a record's command that no longer exist under `root`."""
    words = shlex.split(record.get("command") or "")
    return [word for word in words if word.endswith(".yaml") and not (root / word).exists()]


def older_transition(record: Record) -> bool:
    """Return whether a DSFormer was trained as in 0.1.0: 200 forwards of transition without the first one."""
    model = record.get("config", {}).get("model", {})
    return str(model.get("kind")).startswith("dsformer") and model.get("norm_transition", 0) > 1


def marks(record: Record, root: Path) -> str:
    """Return the marks of a record in `runs.csv`, such as `uncommitted; gone: configs/x.yaml`."""
    found = ["uncommitted"] if uncommitted(record) else []
    if files := gone(record, root):
        found.append(f"gone: {' '.join(files)}")
    if older_transition(record):
        found.append("transition: 200 forwards")
    return "; ".join(found)


def current(variant: str, warn: bool = False) -> str:
    """Return the current name of a variant. With `warn` print a warning for a name of 0.1.0."""
    name = ALIASES.get(variant, variant)
    if warn and name != variant:
        print(f"warning: the variant {variant} is called {name} now", file=sys.stderr)
    return name


def renamed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the current name of its variant."""
    old = str(record["variant"])
    if (new := current(old)) == old:
        return record
    task, _, seed = str(record["trial"]).rpartition(f"-{old}-")
    return {key: {"trial": f"{task}-{new}-{seed}", "variant": new}.get(key, value) for key, value in record.items()}
