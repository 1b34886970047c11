"""Code of the return-to-go: the activity of units with their own centres and widths (`model.return_code`).

U units of the code.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from snn_dt.model_config import ModelConfig
from snn_dt.models.interface import TaskShape

RETURN_UNITS = 16


class ReturnCode(nn.Module):
    """Encode a return-to-go R as the activity of U units: `tanh((R - c_u) / w_u)`, `[..., 1] -> [..., U]`.

    The initial centres c_u are quantiles of the returns-to-go of the training data. The initial widths w_u are the
    distances between neighbouring centres. Both are learned. The resolution thus follows the data. A single linear
    layer hardly distinguishes 29 from 60 on a scale up to 500. A return-to-go outside the data is clamped as in
    `TokenEmbedding`.

    Args:
        quantiles: scaled returns-to-go at equal steps of probability from the lowest to the highest. None is (0, 1).
        units: U.
    """

    def __init__(self, quantiles: tuple[float, ...] | None, units: int = RETURN_UNITS) -> None:
        super().__init__()
        known = np.asarray(quantiles or (0.0, 1.0))
        self.low, self.high = float(known[0]), float(known[-1])
        centres = np.interp((np.arange(units) + 0.5) / units, np.linspace(0, 1, len(known)), known)
        edges = np.concatenate([[self.low], centres, [self.high]])
        # Equal returns-to-go give equal quantiles. A width must not be 0.
        least = max(self.high - self.low, 1e-6) / 500
        widths = np.maximum((edges[2:] - edges[:-2]) / 2, least)
        self.slope = nn.Parameter(torch.tensor(1 / widths, dtype=torch.float32))
        self.shift = nn.Parameter(torch.tensor(-centres / widths, dtype=torch.float32))

    def forward(self, rtg: Tensor) -> Tensor:
        """Encode scaled returns-to-go `[..., 1] -> [..., U]`."""
        return torch.tanh(rtg.clamp(self.low, self.high) * self.slope + self.shift)


def build_return_code(config: ModelConfig, task: TaskShape) -> ReturnCode | None:
    """Return the code of the return-to-go; None for `model.return_code: linear`."""
    if config.return_code in (None, "linear"):
        return None
    quantiles = (task.rtg_quantiles or task.rtg_range) if config.reads_return else (0.0, 0.0)
    return ReturnCode(quantiles)
