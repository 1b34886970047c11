"""Convert predictions to actions of a Gymnasium space.

N episodes, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from snn_dt.data.encoding import is_composite, rows, take, to_space, values


def make_reader(space: Any, discrete: bool, device: torch.device) -> ActionReader | CompositeReader:
    """Return the reader for an action space."""
    return CompositeReader(space, device) if is_composite(space) else ActionReader(space, discrete, device)


class ActionReader:
    """Turns predictions into actions of a Discrete space or a Box.

    Args:
        space: the action space of the environment.
        discrete: predictions are logits.
        device: device of the predictions.
    """

    def __init__(self, space: Any, discrete: bool, device: torch.device) -> None:
        self.space, self.discrete = space, discrete
        if discrete:
            return
        self._whole = bool(np.issubdtype(space.dtype, np.integer))
        # In float64 the bounds of integer types are exact up to 2^53.
        # A Box of any shape is a vector [A] here.
        bounds = (b.reshape(-1).astype(np.float64 if self._whole else b.dtype) for b in (space.low, space.high))
        self._low, self._high = (torch.as_tensor(b.copy(), device=device) for b in bounds)  # [A]

    def read(self, predictions: Tensor) -> Tensor:
        """Return the actions of predictions `[N, A]`: indices `[N]`, or numbers `[N, A]` within the bounds."""
        if self.discrete:
            return predictions.argmax(-1)
        action = predictions.clamp(self._low, self._high)
        if self._whole:
            return action.round()
        return action.half() if self.space.dtype == np.float16 else action

    def to_environment(self, actions: Tensor, single: bool) -> Any:
        """Return N actions in the format of the environment; with `single` only the first."""
        found = actions.cpu().numpy()
        if self.discrete:
            # Predictions count from 0, a Discrete space from `start`.
            found = found + self.space.start
            return int(found[0]) if single else found
        found = found.reshape(-1, *self.space.shape)  # [N, A] -> [N, *shape]
        # `read` has clamped floating-point actions, exactly, in the type of the space or a wider one.
        found = to_space(found, self.space) if self._whole else np.asarray(found, dtype=self.space.dtype)
        return found[0] if single else found


class CompositeReader:
    """Turns predictions into actions of a MultiDiscrete, MultiBinary, Dict or Tuple space.

    Columns are those of `snn_dt.data.encoding`. The methods are those of `ActionReader`.
    """

    def __init__(self, space: Any, device: torch.device) -> None:
        self.space, self.device = space, device

    def read(self, predictions: Tensor) -> Tensor:
        """Return rows `[N, A]`: choices one-hot, bits 0 or 1, numbers within the bounds of their Box."""
        coded = rows(self.space, values(self.space, predictions.float().cpu().numpy()))
        return torch.as_tensor(coded, dtype=torch.float32, device=self.device)

    def to_environment(self, actions: Tensor, single: bool) -> Any:
        """Return N actions, nested as the space is; with `single` only the first.

        They are an array `[N, *shape]` for MultiDiscrete and MultiBinary, and a list of N actions for Dict and Tuple.
        """
        found = values(self.space, actions.cpu().numpy())
        if single:
            return take(found, 0)
        return found if isinstance(found, np.ndarray) else [take(found, i) for i in range(len(actions))]
