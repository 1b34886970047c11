"""Progress of a run, read from its folder while another process writes it."""

from __future__ import annotations

import json
from pathlib import Path

from snn_dt import io
from snn_dt.training.sweep.folder import read


class Progress:
    """Reads the new lines of `metrics.jsonl`. A resumed run replaces the file, which is then read from its start.

    `step` is the last recorded update. `last_return` is the mean return at the first target of the last evaluation.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / "metrics.jsonl"
        self._offset, self._inode = 0, 0
        self.step, self.last_return = 0, None

    step: int
    last_return: float | None

    def refresh(self) -> None:
        """Read the lines written since the last call."""
        try:
            stat = self._path.stat()
            if stat.st_ino != self._inode or stat.st_size < self._offset:
                self._offset, self._inode = 0, stat.st_ino
            with io.open_file(self._path) as file:
                file.seek(self._offset)
                new = file.read()
        except OSError:
            return
        # The last line may be incomplete; it is read next time.
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                self.step = row["step"]
                if row.get("evaluation"):
                    self.last_return = row["evaluation"][0]["return_mean"]
            except (ValueError, KeyError, TypeError, RecursionError):
                continue  # a line damaged by a crash

    def minutes(self) -> float:
        """Return the minutes of work up to the last record."""
        attempt = read(self._folder / "attempt.json")
        seconds = float(attempt.get("seconds", 0.0))
        if attempt.get("running") and self._path.exists():
            seconds += max(0.0, self._path.stat().st_mtime - attempt["started"])
        return seconds / 60
