"""Input and output of an analysis: the policy, the numbers and the figure."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from snn_dt.io import write_file
from snn_dt.jsonl import write_json

if TYPE_CHECKING:
    import torch

    from snn_dt.evaluation.policy import Policy
    from snn_dt.model_config import ModelConfig


def load_policy(checkpoint: Path, device: str, threads: int) -> Policy:
    """Load a checkpoint onto a device and set the threads."""
    from snn_dt.checkpoint import from_pretrained

    return from_pretrained(checkpoint, str(set_up(device, threads)))


def model_config(policy: Policy) -> ModelConfig:
    """Return the configuration that the policy's model was built from."""
    model: Any = policy.model
    config: ModelConfig = model.config
    return config


def set_up(device: str, threads: int) -> torch.device:
    """Set the threads and return the device."""
    from snn_dt.device import choose_device, set_threads, tune_allocator

    tune_allocator()
    set_threads(threads)
    return choose_device(device)


def write_analysis(path: Path, rows: list[dict[str, Any]], figure: Any) -> None:
    """Write rows as JSON and as a figure. Rows without lists are written as CSV too."""
    from snn_dt.report.style import png

    picture = png(figure)
    write_json(rows, path.with_suffix(".json"))
    write_file(path.with_suffix(".png"), picture)
    if not any(isinstance(value, list) for value in rows[0].values()):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_file(path.with_suffix(".csv"), text.getvalue())
    print(f"numbers: {path}.json\nfigure: {path}.png")
