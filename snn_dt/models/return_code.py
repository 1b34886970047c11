"""Codes of the return-to-go: the activity of units with their own centres and widths (`model.return_code`).

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

    With `even` half of the centres are quantiles and half are evenly spaced, and no width is below 1/32 of the range.
    The few steps with a high return-to-go then have units of their own, and no value lies between two sharp units: a
    code with widths of a few units of return, asked for 3600 where the data hold 3624, returned 268.

    Args:
        quantiles: scaled returns-to-go at equal steps of probability from the lowest to the highest. None is (0, 1).
        units: U.
        even: see above.
    """

    def __init__(self, quantiles: tuple[float, ...] | None, units: int = RETURN_UNITS, even: bool = False) -> None:
        super().__init__()
        known = np.asarray(quantiles or (0.0, 1.0))
        self.low, self.high = float(known[0]), float(known[-1])
        of_data = units // 2 if even else units
        centres = np.interp((np.arange(of_data) + 0.5) / of_data, np.linspace(0, 1, len(known)), known)
        if even:
            others = units - of_data
            spaced = self.low + (np.arange(others) + 0.5) / others * (self.high - self.low)
            centres = np.sort(np.concatenate([centres, spaced]))
        edges = np.concatenate([[self.low], centres, [self.high]])
        # Equal returns-to-go give equal quantiles. A width must not be 0.
        least = max(self.high - self.low, 1e-6) / (32 if even else 500)
        widths = np.maximum((edges[2:] - edges[:-2]) / 2, least)
        self.slope = nn.Parameter(torch.tensor(1 / widths, dtype=torch.float32))
        self.shift = nn.Parameter(torch.tensor(-centres / widths, dtype=torch.float32))

    def forward(self, rtg: Tensor) -> Tensor:
        """Encode scaled returns-to-go `[..., 1] -> [..., U]`."""
        return torch.tanh(rtg.clamp(self.low, self.high) * self.slope + self.shift)


def build_return_code(config: ModelConfig, task: TaskShape) -> ReturnCode | None:
    """Return the code that `model.return_code` names; None for `linear`."""
    if config.return_code in (None, "linear"):
        return None
    quantiles = (task.rtg_quantiles or task.rtg_range) if config.reads_return else (0.0, 0.0)
    return ReturnCode(quantiles, even=config.return_code == "code")
