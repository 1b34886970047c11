"""Old names of config fields. They keep working, with one warning line that gives the new name."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")

RENAMED = {
    "propagation": "coding",
    "raised_rtg": "rtg_augment",
    "best_share": "oversample_top",
    "top_fraction": "filter_top",
    "carry_state": "stateful",
}
"""Old name of a field to its new name in any section. All changed in 0.2.0."""

_log = logging.getLogger("snn_dt")
_told: set[str] = set()


def current_name(name: str) -> str:
    """Return the current name of a field; `name` may have a section (`model.propagation`) and hyphens."""
    section, dot, field = name.rpartition(".")
    new = RENAMED.get(field.replace("-", "_"))
    if new is None:
        return name
    if field not in _told:
        _told.add(field)
        _log.warning("%s is an old name: write %s%s%s", name, section, dot, new)
    return f"{section}{dot}{new}"


def current_keys(values: Any, section: str = "") -> Any:
    """Return nested dictionaries with current keys; other values unchanged. A key with both names keeps both."""
    if not isinstance(values, dict):
        return values
    found = {}
    for key, value in values.items():
        old = isinstance(key, str) and RENAMED.get(key) not in (None, *values)
        new = current_name(f"{section}{key}").rpartition(".")[2] if old else key
        found[new] = current_keys(value, f"{key}.")
    return found


def takes_old_names(cls: type[T]) -> type[T]:
    """Let a dataclass accept the old names of its fields, as arguments and as attributes."""
    build: Any = cls.__init__

    @functools.wraps(build)
    def init(self: Any, *args: Any, **values: Any) -> None:
        build(self, *args, **{name if name in fields else current_name(name): x for name, x in values.items()})

    def old_field(self: Any, name: str) -> Any:
        if RENAMED.get(name) not in fields:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self, current_name(name))

    fields: dict[str, Any] = cls.__dataclass_fields__  # type: ignore[attr-defined]
    cls.__init__, cls.__getattr__ = init, old_field  # type: ignore[method-assign, attr-defined]
    return cls


def current_flags(arguments: Sequence[str]) -> list[str]:
    """Return command-line words with old flags replaced, `--data.best_share=0.5` by `--data.oversample_top=0.5`."""
    words = []
    for word in arguments:
        flag, equals, value = word.partition("=")
        words.append(f"{current_name(flag)}{equals}{value}" if flag.startswith("--") and "." in flag else word)
    return words
