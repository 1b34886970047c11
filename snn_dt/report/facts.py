"""Read a run folder for a report. Files with unexpected content are omitted and named. The report never fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from snn_dt import io, jsonl
from snn_dt.plain_yaml import parse_yaml
from snn_dt.report.html import Facts, Part

Rows = Sequence[Mapping[str, Any]]
T = TypeVar("T")


class Parts:
    """Makes the parts of a report and lists those that failed."""

    def __init__(self) -> None:
        self.left_out: list[str] = []

    def made(self, name: str, make: Callable[[], T]) -> T | None:
        """Return the result of `make`. If it raises, add a note and return None."""
        try:
            return make()
        except Exception as error:  # content of a file can be wrong in any way
            reason = " ".join(str(error).split())[:120].encode(errors="replace").decode()
            self.left_out.append(f"{name} ({type(error).__name__}: {reason})")
            return None

    def mapping(self, name: str, value: Any) -> dict[str, Any]:
        """Return `value` if it is a mapping that can be shown. Otherwise add a note and return an empty one."""

        def check() -> dict[str, Any]:
            if not isinstance(value, dict):
                raise TypeError(f"expected a mapping, found {value!r:.60}")
            # Rendered once to see whether it fails.
            Facts(value).html()
            return value

        return {} if value is None else self.made(name, check) or {}

    def listed(self, name: str, make: Callable[[], list[Part]]) -> list[Part]:
        """Return the parts from `make`. If one cannot be written as HTML, add a note and return none."""

        def check() -> list[Part]:
            found = make()
            for part in found:
                part.html()
            return found

        return self.made(name, check) or []


class RunFacts:
    """Command, provenance, policy, config and metrics of a run.

    `path` is a run folder or a checkpoint folder. The latter may be inside or outside a run folder.
    """

    def __init__(self, path: Path, parts: Parts) -> None:
        checkpoint = path / "checkpoints" / "last" if (path / "checkpoints").is_dir() else path
        folder = path.parent.parent if path.parent.name == "checkpoints" else path
        provenance = _read(checkpoint / "provenance.json", parts)
        made_with = provenance.pop("config", None)
        self.name = folder.resolve().name
        self.command = parts.made("command", lambda: _text(provenance.pop("command", ""))) or ""
        self.provenance = parts.mapping("provenance", provenance)
        self.policy = parts.mapping("policy", _read(checkpoint / "config.json", parts).get("policy"))
        self.config = _read(folder / "config.yaml", parts) or parts.mapping("config", made_with)
        self.model = parts.mapping("config", self.config.get("model"))
        metrics = folder / "metrics.jsonl"
        found = parts.made("metrics", lambda: jsonl.read_rows(metrics)) if io.is_file(metrics) else None
        self.metrics = found or []

    def title(self, evaluations: Rows) -> str:
        """Return the title: model and environment."""
        kind = self.model.get("kind")
        return " on ".join(str(name) for name in (kind, evaluations[0].get("env_id")) if name) or "evaluation"

    def about(self) -> str:
        """Return the line under the title: run, data and the date of the report."""
        data = self.provenance.get("dataset_id")
        known = (f"run {self.name}", f"data {data}" if data else "", f"{datetime.now(UTC):%Y-%m-%d}")
        return ", ".join(part for part in known if part)

    def reference(self, evaluations: Rows) -> dict[str, float]:
        """Return the returns at score 0 and 100. Empty for an environment without a score."""
        scored = evaluations[0].get("normalized_score") is not None
        scores = (self.policy.get("reference") if scored else None) or {}
        return {
            f"score {score}": float(numbers([scores[key]])[0])
            for score, key in ((0, "min"), (100, "max"))
            if key in scores
        }


def _read(path: Path, parts: Parts) -> dict[str, Any]:
    """Return the mapping in a JSON or YAML file. Empty if it is missing or damaged."""

    def read() -> Any:
        return io.read_json(path) if path.suffix == ".json" else parse_yaml(io.read_text(path))

    return parts.mapping(path.name, parts.made(path.name, read)) if io.is_file(path) else {}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {value!r:.60}")
    return value


def numbers(values: Any) -> NDArray[np.float64]:
    """Return finite numbers `[E]`. Raise TypeError or ValueError for anything else, such as numbers as text."""
    found = np.asarray(values)
    if found.ndim != 1 or found.dtype.kind not in "iuf" or not np.isfinite(found).all():
        raise ValueError(f"expected a list of finite numbers, found {values!r:.60}")
    return found.astype(np.float64)
