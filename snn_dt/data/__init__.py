"""Offline datasets and training batches."""

from snn_dt.data.load import load_dataset
from snn_dt.data.scores import ReferenceScores, normalized_score
from snn_dt.data.trajectories import Trajectories
from snn_dt.data.windows import Batch, Windows, WindowSampler

__all__ = [
    "Batch",
    "ReferenceScores",
    "Trajectories",
    "WindowSampler",
    "Windows",
    "load_dataset",
    "normalized_score",
]
