"""Offline reinforcement learning with spiking sequence models."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from snn_dt import moved

__version__ = "0.4.0"

# Public names and where they live; resolved on first use, so that `import snn_dt` costs torch and numpy only.
_PUBLIC = {
    "Config": "snn_dt.config",
    "Policy": "snn_dt.evaluation.policy",
    "SnnDtError": "snn_dt.errors",
    "Trajectories": "snn_dt.data.trajectories",
    "evaluate": "snn_dt.evaluation.rollout",
    "from_pretrained": "snn_dt.checkpoint",
    "load_config": "snn_dt.config",
    "load_dataset": "snn_dt.data",
    "train": "snn_dt.run",
    "register_attention": "snn_dt.registry",
    "register_data_source": "snn_dt.registry",
    "register_encoder": "snn_dt.registry",
    "register_kind": "snn_dt.registry",
    "register_loss": "snn_dt.registry",
    "register_neuron": "snn_dt.registry",
    "register_positions": "snn_dt.registry",
}

# Threads that spin long at a barrier slow down other jobs on the machine. torch reads this when it is loaded, so it has
# no effect if the caller has imported torch before.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

moved.install()

__all__ = sorted([*_PUBLIC, "__version__"])

if TYPE_CHECKING:
    from snn_dt.checkpoint import from_pretrained as from_pretrained
    from snn_dt.config import Config as Config
    from snn_dt.config import load_config as load_config
    from snn_dt.data import load_dataset as load_dataset
    from snn_dt.data.trajectories import Trajectories as Trajectories
    from snn_dt.errors import SnnDtError as SnnDtError
    from snn_dt.evaluation.policy import Policy as Policy
    from snn_dt.evaluation.rollout import evaluate as evaluate
    from snn_dt.registry import register_attention as register_attention
    from snn_dt.registry import register_data_source as register_data_source
    from snn_dt.registry import register_encoder as register_encoder
    from snn_dt.registry import register_kind as register_kind
    from snn_dt.registry import register_loss as register_loss
    from snn_dt.registry import register_neuron as register_neuron
    from snn_dt.registry import register_positions as register_positions
    from snn_dt.run import train as train


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'snn_dt' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
