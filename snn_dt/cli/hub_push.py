"""`snn-dt hub`: publish a checkpoint on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from snn_dt.command import Command, plain_console
from snn_dt.report.model_card import push


@dataclass(frozen=True)
class PushFlags:
    """Publish a checkpoint with a model card; `snn_dt.from_pretrained("user/name")` loads it again."""

    checkpoint: Positional[Path]
    """Checkpoint or run folder."""
    repository: Positional[str]
    """`user/name` on the hub; made if it is missing."""
    evaluation: Path | None = None
    """Output of `snn-dt evaluate --json` for the card; null takes evaluation.json in the folder, if it is there."""
    licence: str = "mit"
    """Short name of the licence of the weights. The licence of the data may restrict it."""
    private: bool = False
    """Make a new repository private."""


def _push(flags: PushFlags) -> None:
    address = push(
        flags.checkpoint,
        flags.repository,
        evaluation=flags.evaluation,
        licence=flags.licence,
        private=flags.private,
    )
    plain_console().print(f'published    {address}\nload it      snn_dt.from_pretrained("{flags.repository}")')


HUB = {"push": Command(PushFlags, _push)}
