"""Compare configurations: a run can be resumed only with the configuration it started with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from snn_dt import strict
from snn_dt.errors import CheckpointError, ConfigError
from snn_dt.model_config import ModelConfig
from snn_dt.renamed import current_keys

IGNORED_FIELDS = frozenset({"track", "threads"})
"""Sections and fields that never count as a difference."""
NEWER_FIELDS = frozenset(
    {
        *("model.attention_span", "model.condition", "model.goal", "model.goal_bins", "model.return_code"),
        *("model.encoder", "data.frame_stack"),
        *("data.relabel_goals", "task.commands", "eval.context_length", "track.tracker", "track.video"),
    }
)
"""Fields that older runs lack; their defaults mean "as before"."""
CHANGEABLE_ON_RESUME = IGNORED_FIELDS | {
    *("eval", "device", "checkpoint", "dataset", "download", "log_every", "eval_every", "save_every")
}
"""Sections and fields that may change when a run is resumed: device, path of the data, logging and evaluation."""


def difference(config: Any, stored: dict[str, Any], ignored: Collection[str] = IGNORED_FIELDS) -> str:
    """Return the first field in which a stored configuration differs from `config`, in words; empty if none does.

    Fields missing from the stored configuration take their defaults, which mean "as before".

    Args:
        config: a dataclass of sections.
        stored: the other configuration, in nested dictionaries.
        ignored: names of sections and fields that may differ.
    """
    try:
        built = strict.build(type(config), stored, "stored configuration")
    except ConfigError as error:
        return str(error)
    return _first_difference(_resolved(config), _resolved(built), ignored)


def check_same(config: Any, stored: Any, run_dir: Path) -> None:
    """Check that a run is resumed with the configuration of its checkpoint, except for `CHANGEABLE_ON_RESUME`.

    Args:
        config: the configuration in the run folder, a dataclass of sections.
        stored: the configuration in the checkpoint; older checkpoints have none and are trusted.
        run_dir: the run folder.

    Raises:
        CheckpointError: they differ.
    """
    if isinstance(stored, dict) and (other := difference(config, stored, CHANGEABLE_ON_RESUME)):
        raise CheckpointError(
            f"expected in {run_dir / 'config.yaml'} what its checkpoint was made with, found: {other}; put it back, or "
            "begin a new run"
        )


def check_whole(config: Any, stored: Any, path: Path) -> None:
    """Check that the stored configuration of a run names every field. A truncated file would fall back to defaults.

    Args:
        config: the configuration as read, a dataclass of sections with defaults for missing fields.
        stored: the content of the file, in nested dictionaries.
        path: the file.

    Raises:
        CheckpointError: fields are missing.
    """
    if missing := _missing(strict.to_dict(config), stored):
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise CheckpointError(
            f"expected the whole configuration of a run in {path}, found it without {', '.join(missing[:3])}{more}; it "
            "was cut off, or is of an older version: put back what is missing (what is younger than the run, with the "
            "default that --help shows), or begin a new run"
        )


def _resolved(config: Any) -> dict[str, Any]:
    """Return the fields of `config`, with the default of the model's kind in place of null: both mean the same."""
    fields = strict.to_dict(config)
    if isinstance(model := getattr(config, "model", None), ModelConfig):
        fields["model"] = strict.to_dict(model.resolved())
    return fields


def _missing(whole: dict[str, Any], stored: Any, prefix: str = "") -> list[str]:
    found = current_keys(stored) if isinstance(stored, dict) else {}
    names = []
    for key, value in whole.items():
        if isinstance(value, dict) and value:
            names += _missing(value, found.get(key), f"{prefix}{key}.")
        elif key not in found and f"{prefix}{key}" not in NEWER_FIELDS:
            names.append(f"{prefix}{key}")
    return names


def _first_difference(
    config: dict[str, Any], stored: dict[str, Any], ignored: Collection[str], prefix: str = ""
) -> str:
    for key, here in config.items():
        name, there = f"{prefix}{key}", stored[key]
        if key in ignored or here == there:
            continue
        if not isinstance(here, dict) or not isinstance(there, dict):
            return f"{name} is {there} there and {here} here"
        if inner := _first_difference(here, there, ignored, f"{name}."):
            return inner
    return ""
