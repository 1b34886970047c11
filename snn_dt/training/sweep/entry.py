"""Entries of `configs` or `variants` in a sweep file: config files and single values.

```yaml
variants:
  - ../variant/dense.yaml                                                      # named after the file
  - {name: snn_dt-budget-4M, config: ../variant/snn_dt-full.yaml, train.budget.synaptic_operations: 4_000_000}
```
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from snn_dt.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """Config files and `values` (section.field: value). Later files override earlier ones. Values override files."""

    name: str
    files: tuple[Path, ...]
    values: dict[str, Any]


def read_entries(entries: tuple[Any, ...], key: str, path: Path) -> list[Entry]:
    """Read the entries under `key` of the sweep file `path`. Their files are relative to its folder.

    Raises:
        ConfigError: an entry is neither a file nor a mapping with at least a name or a file.
    """
    return [_read(entry, f"{path}: {key}", path.parent) for entry in entries]


def _read(entry: Any, where: str, folder: Path) -> Entry:
    fields = {"config": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict):
        raise ConfigError(f"{where}: expected a config file or {{name, config, section.field: value}}, found {entry!r}")
    listed = fields.get("config", [])
    files = [listed] if isinstance(listed, str) else listed
    if not isinstance(files, list | tuple) or not all(isinstance(file, str) for file in files):
        raise ConfigError(f"{where}: config: expected a file or a list of files, found {listed!r}")
    name = fields.get("name", Path(files[-1]).stem if files else None)
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: expected a name or a file in each entry, found neither in {entry!r}")
    values = {key: value for key, value in fields.items() if key not in ("name", "config")}
    for key in values:
        if not isinstance(key, str) or "." not in key:
            raise ConfigError(f"{where}: expected name, config or section.field, found {key!r} in the entry {name}")
    # `normpath` removes `..`, so that commands in records are readable.
    return Entry(name, tuple(Path(os.path.normpath(folder / file)) for file in files), values)
