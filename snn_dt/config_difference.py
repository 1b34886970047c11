"""In what two configurations differ: a run goes on, and counts as made, under the one it was begun with alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.renamed import current_keys

WHERE = frozenset({"track", "threads"})
"""Where a run is tracked, and how many threads it has."""
AROUND = WHERE | {"eval", "device", "checkpoint", "dataset", "download", "log_every", "eval_every", "save_every"}
"""And what else may change on the way: where the work is done, where the data lie, what is measured and kept."""


def difference(asked: Any, found: dict[str, Any], free: Collection[str] = WHERE) -> str:
    """Name the first field in which a stored configuration differs from `asked`, if one does; else an empty text.

    A field that is younger than what was stored counts with its default, which means "as before".

    Args:
        asked: a dataclass of sections.
        found: the stored one, in nested dictionaries.
        free: names of sections and fields that may differ.
    """
    try:
        stored = strict.build(type(asked), found, "stored configuration")
    except ConfigError as error:
        return str(error)
    return _first(strict.to_dict(asked), strict.to_dict(stored), free)


def check_same(config: Any, stored: Any, run_dir: Path) -> None:
    """Check that a run is gone on with as it was begun, but for what lies around the training.

    Args:
        config: that of the run folder, a dataclass of sections.
        stored: that of the checkpoint; none is an older checkpoint, which is trusted.
        run_dir: the run folder.

    Raises:
        CheckpointError: they differ.
    """
    if isinstance(stored, dict) and (other := difference(config, stored, AROUND)):
        raise CheckpointError(
            f"expected in {run_dir / 'config.yaml'} what its checkpoint was made with, found: {other}; put it back, or "
            "begin a new run"
        )


def check_whole(config: Any, stored: Any, path: Path) -> None:
    """Check that what a run keeps of its configuration names every field: one that is cut off means something else.

    Args:
        config: what was read, a dataclass of sections whose missing fields took their defaults.
        stored: what the file holds, in nested dictionaries.
        path: the file.

    Raises:
        CheckpointError: fields are missing.
    """
    if lacking := _lacking(strict.to_dict(config), stored):
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        raise CheckpointError(
            f"expected the whole configuration of a run in {path}, found it without {', '.join(lacking[:3])}{more}; it "
            "was cut off, or is of an older version: put back what is missing (what is younger than the run, with the "
            "default that --help shows), or begin a new run"
        )


def _lacking(whole: dict[str, Any], stored: Any, prefix: str = "") -> list[str]:
    found = current_keys(stored) if isinstance(stored, dict) else {}
    names = []
    for key, value in whole.items():
        if isinstance(value, dict) and value:
            names += _lacking(value, found.get(key), f"{prefix}{key}.")
        elif key not in found:
            names.append(f"{prefix}{key}")
    return names


def _first(asked: dict[str, Any], found: dict[str, Any], free: Collection[str], prefix: str = "") -> str:
    for key, a in asked.items():
        name, b = f"{prefix}{key}", found[key]
        if key in free or a == b:
            continue
        if not isinstance(a, dict) or not isinstance(b, dict):
            return f"{name} is {b} there and {a} here"
        if inner := _first(a, b, free, f"{name}."):
            return inner
    return ""
