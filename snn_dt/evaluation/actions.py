"""Convert predictions to actions of a Gymnasium space.

N episodes, A action dimensions or number of discrete actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_space(values: NDArray[Any], space: Any) -> NDArray[Any]:
    """Return `values [N, ...]` within the bounds of a Box and in its type. Integers are rounded.

    A value at or beyond a bound becomes exactly the bound. A float cannot represent the int64 bound 2^63 - 1.
    """
    if not np.issubdtype(space.dtype, np.integer):
        return np.asarray(np.clip(values, space.low, space.high), dtype=space.dtype)
    whole = np.rint(values.astype(np.float64))
    above, below = whole >= space.high.astype(np.float64), whole <= space.low.astype(np.float64)
    inside = np.where(above | below, 0.0, whole).astype(space.dtype)
    return np.asarray(np.where(above, space.high, np.where(below, space.low, inside)), dtype=space.dtype)


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
        values = actions.cpu().numpy()
        if self.discrete:
            # Predictions count from 0, a Discrete space from `start`.
            values = values + self.space.start
            return int(values[0]) if single else values
        values = values.reshape(-1, *self.space.shape)  # [N, A] -> [N, *shape]
        # `read` has clamped floating-point actions, exactly, in the type of the space or a wider one.
        values = to_space(values, self.space) if self._whole else np.asarray(values, dtype=self.space.dtype)
        return values[0] if single else values
