"""Files of a trial, besides those of every run folder.

```
trial.json      configuration, overrides, and the command that makes the run without a sweep
attempt.json    the process that owns the folder, its start, and the seconds of earlier attempts
log.txt         output of all attempts
result.json     written last, when the trial is finished
```
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from snn_dt import io
from snn_dt.config import Config, check_env_id, config_from_dict, config_to_dict
from snn_dt.config_difference import check_whole, difference
from snn_dt.errors import CheckpointError
from snn_dt.io import write_atomically
from snn_dt.jsonl import dumps
from snn_dt.training.sweep.grid import Trial

WATCH_SECONDS = 0.5
TAKEN_OVER_STATUS = 75
"""Exit status of a process whose folder another process has taken over."""


def prepare(folder: Path, trial: Trial) -> None:
    """Make the folder of a trial, or check that an existing one has the same configuration.

    Raises:
        CheckpointError: the folder cannot be written or has a run of another configuration.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        facts = {name: getattr(trial, name) for name in ("name", "variant", "overrides", "command", "episodes")}
        # As it is read back: tuples become lists.
        wanted = json.loads(dumps(facts | {"config": config_to_dict(trial.config)}))
        found = read(folder / "trial.json")
        if not found:
            write_atomically(folder / "trial.json", dumps(wanted, indent=2) + "\n")
    except OSError as error:
        raise CheckpointError(
            f"expected a folder that can be written at {folder}, found: {error.strerror}; choose another --run_root"
        ) from error
    if found and (found_other := difference(trial.config, _stored(found, folder)["config"])):
        raise CheckpointError(
            f"{folder}: expected a run of this sweep's configuration, found another: {found_other}; choose another "
            "--run_root, or delete the folder"
        )


def read_config(folder: Path, trust: bool = False) -> Config:
    """Return the configuration of a trial.

    Raises:
        CheckpointError: the folder was not made by a sweep.
        ConfigError: without `trust`, an environment that imports a module.
    """
    if not (found := read(folder / "trial.json")):
        raise CheckpointError(f"expected a trial's folder, with trial.json, at {folder}, found none; see snn-dt sweep")
    stored = _stored(found, folder)["config"]
    config = config_from_dict(stored, source=str(folder / "trial.json"))
    check_whole(config, stored, folder / "trial.json")
    if not trust:
        check_env_id("eval.env_id", config.eval.env_id)
    return config


def _stored(found: dict[str, Any], folder: Path) -> dict[str, Any]:
    kinds = {"name": str, "overrides": dict, "config": dict, "command": str}
    if wrong := [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]:
        raise CheckpointError(
            f"expected a trial's name, overrides, config and command in {folder / 'trial.json'}, found it without "
            f"{', '.join(wrong)}; delete the folder and run the sweep again"
        )
    return found


def read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. It is empty if the file is missing or damaged."""
    try:
        found = io.read_json(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Attempt:
    """Ownership of a trial folder by one process. The newest process owns the folder and older ones exit.

    A process can outlive its parent after a killed sweep or a lost network. Its successor then uses the same folder.
    Both can only communicate by a name in a file on the shared disk.
    """

    def __init__(self, folder: Path) -> None:
        """Take over the folder."""
        self._path, self.started, self._parent = folder / "attempt.json", time.time(), os.getppid()
        before = read(self._path)
        self.number: int = before.get("number", 0) + 1
        self._seconds_before = float(before.get("seconds", 0.0))
        if before.get("running"):  # killed after its last line of metrics
            metrics = folder / "metrics.jsonl"
            last = metrics.stat().st_mtime if metrics.exists() else 0.0
            self._seconds_before += max(0.0, last - before["started"])
        self._owner = secrets.token_hex(8)
        self._write(running=True, seconds=self._seconds_before)
        if before.get("running"):
            time.sleep(3 * WATCH_SECONDS)  # time for an earlier process to notice and exit

    @property
    def seconds(self) -> float:
        """Seconds of this attempt and of earlier ones."""
        return self._seconds_before + time.time() - self.started

    def watch(self, orphaned: Callable[[], None]) -> None:
        """Watch in a thread. Exit if the folder is taken over, and call `orphaned` if the parent process ends."""
        # A daemon thread does not keep the process alive.
        threading.Thread(target=self._watch, args=(orphaned,), daemon=True).start()

    def end(self) -> None:
        """Release the folder."""
        self._write(running=False, seconds=self.seconds)

    def _watch(self, orphaned: Callable[[], None]) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            if (owner := read(self._path).get("owner")) is not None and owner != self._owner:
                os._exit(TAKEN_OVER_STATUS)
            if self._parent != os.getppid():
                self._parent = os.getppid()
                orphaned()

    def _write(self, running: bool, seconds: float) -> None:
        facts = {"owner": self._owner, "number": self.number, "running": running, "started": self.started}
        write_atomically(self._path, dumps(facts | {"seconds": seconds, "host": platform.node()}) + "\n")
