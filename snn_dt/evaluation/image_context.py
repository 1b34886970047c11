"""What a policy with image observations does besides: rows of bytes, stacks of frames, features of each new state.

N episodes, S bytes of an observation, n frames of a state, P pixels of a frame.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from snn_dt.data.images import find_image, pack
from snn_dt.errors import EnvironmentMismatchError
from snn_dt.evaluation.decide import Decide
from snn_dt.models.encoders import encoded, floats


class ImageReader:
    """Turns observations with an image into rows of bytes; see `snn_dt.data.images`.

    Attributes:
        size: bytes S of an observation. A state may hold more frames.
    """

    def __init__(self, model: Any, space: Any) -> None:
        image = find_image(space)
        assert image is not None
        self._image = image
        self.size = int(model.state_dim) - (model.task.frames - 1) * image.pixels

    def is_row(self, observation: Any) -> bool:
        """Return whether an observation is a row of bytes already."""
        return np.shape(observation) == (self.size,) and np.asarray(observation).dtype == np.uint8

    def row(self, observation: Any) -> NDArray[np.uint8]:
        """Return an observation of the space, or its columns `[A]`, as a row `[S]`. Too few are refused by `act`.

        Raises:
            EnvironmentMismatchError: the pixels are not those of an image.
        """
        image, flat = self._image, np.asarray(observation).reshape(-1)
        if flat.size < image.first + image.pixels:
            return np.zeros(flat.size, np.uint8)
        try:
            return pack(image, flat[None])[0]
        except (TypeError, ValueError) as error:
            raise EnvironmentMismatchError(
                f"expected an image of {image.shape} as the environment emits it, found {error}; do not scale it"
            ) from error

    def numbers(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return the numbers `[N, d]` of rows `[N, S]`."""
        return np.ascontiguousarray(rows[:, : -self._image.pixels]).view(np.float32)

    def scale(self, rows: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return rows `[N, S]` with numbers less `mean [d]` over `std [d]`."""
        numbers, pixels = rows.tensor_split([rows.shape[1] - self._image.pixels], 1)
        normal = (floats(numbers) - mean) / std  # [N, d]
        return torch.cat([normal.reshape(-1).view(torch.uint8).reshape(numbers.shape), pixels], 1)


class ImageContext:
    """Another context, whose states are features of images.

    Attributes:
        past: the n - 1 frames before, the oldest first, `[N, (n - 1) P]` uint8.
        fresh: episodes without a frame so far, `[N]`. Their first frame is repeated.
    """

    def __init__(self, inner: Any, model: Any, n: int, device: torch.device) -> None:
        self._inner, self._model = inner, model
        self._pixels, self._frames = math.prod(model.task.image), model.task.frames
        self.past = torch.zeros(n, (self._frames - 1) * self._pixels, dtype=torch.uint8, device=device)
        self.fresh = torch.ones(n, dtype=torch.bool, device=device)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # not yet set, while this object is copied
            raise AttributeError(name)
        return getattr(self._inner, name)

    def decide(self, decide: Decide, rtg: Tensor, states: Tensor) -> Tensor:
        """Begin a step with `rtg [N]` (scaled) and `states [N, S]` of one frame; return its predictions `[N, A]`."""
        numbers, frame = states.tensor_split([states.shape[1] - self._pixels], 1)
        past = torch.where(self.fresh[:, None], frame.repeat(1, self._frames - 1), self.past)
        self.past, self.fresh = torch.cat([past, frame], 1)[:, self._pixels :], torch.zeros_like(self.fresh)
        features = encoded(self._model, torch.cat([numbers, past, frame], 1))
        predictions: Tensor = self._inner.decide(decide, rtg, features)
        return predictions

    def restart(self, rows: Tensor) -> None:
        """Begin new episodes in `rows` (int64 indices)."""
        self.fresh = self.fresh.index_fill(0, rows, True)
        self._inner.restart(rows)

    def keep(self, rows: Tensor) -> None:
        """Drop all episodes but those of `rows`."""
        self.past, self.fresh = self.past[rows], self.fresh[rows]
        self._inner.keep(rows)

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all tensors."""
        own: dict[str, Tensor] = {"frames.past": self.past.clone(), "frames.fresh": self.fresh.clone()}
        return own | self._inner.state_dict()

    def load_state_dict(self, values: dict[str, Tensor]) -> None:
        """Restore the result of `state_dict`."""
        rest = {name: x.to(self.fresh.device, copy=True) for name, x in values.items()}
        self.past, self.fresh = rest.pop("frames.past"), rest.pop("frames.fresh")
        self._inner.load_state_dict(rest)
