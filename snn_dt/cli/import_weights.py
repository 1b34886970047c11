"""`snn-dt import`: Decision Transformer weights of other packages become checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from snn_dt import convert
from snn_dt.command import Command, plain_console
from snn_dt.data import load_dataset
from snn_dt.errors import ConfigError
from snn_dt.evaluation.policy import Policy


@dataclass(frozen=True)
class ImportFlags:
    """Import Decision Transformer weights into a checkpoint of kind dense."""

    path: Positional[Path]
    """Folder of a Hugging Face checkpoint (hf), or file of a state dict (original)."""
    stats: str
    """JSON file with the lists state_mean and state_std of the training, or the dataset to compute them from
    (`minari:<id>`, `d4rl:<id>`, ...)."""
    out: Path
    """Checkpoint folder to write."""
    target_return: float | None = None
    """Default target in environment units; null takes the best return of the dataset in --stats."""
    env_id: str | None = None
    """Gymnasium environment to evaluate in; null takes that of the dataset."""
    rtg_scale: float = convert.SCALE
    """Divisor of the return-to-go in training."""
    context_length: int = 20
    """K of the training, in environment steps."""

    def setting(self) -> convert.Setting:
        """Read the statistics.

        Raises:
            SnnDtError: file or dataset cannot be used, or there is no target.
        """
        if not self.rtg_scale > 0:
            raise ConfigError(f"expected --rtg-scale above 0, found {self.rtg_scale:g}; the authors' code has 1000")
        data = None if self.stats.endswith(".json") else load_dataset(self.stats)
        if data is not None:
            mean, std = data.state_mean, data.state_std
        else:
            mean, std = convert.read_stats(Path(self.stats))
        target = self.target_return
        if target is None and data is not None:
            target = float(data.episode_returns.max())
        if target is None:
            raise ConfigError("expected --target-return beside a file of statistics, found none; for Hopper 3600, say")
        env_id = self.env_id or (data.env_id if data else None)
        return convert.Setting(mean, std, target, self.rtg_scale, self.context_length, env_id, data)


@dataclass(frozen=True)
class OriginalFlags(ImportFlags):
    """Import a state dict of the authors' Gym code (github.com/kzl/decision-transformer) into kind dense."""

    n_heads: int = 1
    """n_head of the training, which a state dict does not show."""


def _run(make: Callable[[ImportFlags, convert.Setting], Policy]) -> Callable[[ImportFlags], None]:
    def run(flags: ImportFlags) -> None:
        policy = make(flags, flags.setting())
        policy.save_pretrained(flags.out)
        plain_console().print(f"{policy!r}\ncheckpoint   {flags.out}")

    return run


def _original(flags: ImportFlags, setting: convert.Setting) -> Policy:
    assert isinstance(flags, OriginalFlags)
    return convert.from_original(flags.path, setting, flags.n_heads)


IMPORT = {
    "hf": Command(ImportFlags, _run(lambda flags, setting: convert.from_hugging_face(flags.path, setting))),
    "original": Command(OriginalFlags, _run(_original)),
}
