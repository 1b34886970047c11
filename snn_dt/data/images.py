"""Observations with an image, as rows of bytes.

A row holds the float32 numbers of the other parts of the observation, four bytes each, then the pixels in the order of
their space: `[4 d + P]` uint8. So an image takes one byte a pixel in the cache and in a batch, and the numbers lose
nothing. A frame stack repeats the pixels: `[4 d + n P]`, the oldest frame first.

Shapes: `T` steps; `d` numbers beside the image; `P` pixels, channels included; `A = d + P` columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

if TYPE_CHECKING:
    from snn_dt.data.trajectories import Trajectories

NUMBER_BYTES = 4
MAX_GRID = 31
"""Largest number of rows and columns of a grid that is no image if it has two axes, or is one of bytes with fewer than
`MIN_IMAGE` rows or columns (Minigrid's 7 x 7 x 3)."""
MIN_IMAGE = 8


class Image(NamedTuple):
    """The image of an observation: its shape, its first column in a row of `encoding.rows`, and its largest value."""

    shape: tuple[int, ...]
    first: int
    high: int

    @property
    def pixels(self) -> int:
        """Number of pixels P, channels included."""
        return math.prod(self.shape)


def is_image(shape: tuple[int, ...], dtype: Any) -> bool:
    """Return whether an array is an image or a stack of images, with the channels on any axis.

    Bytes and bits with two axes longer than `MAX_GRID` are an image, or with three axes, two of them of `MIN_IMAGE` at
    least. Other numbers are one only with two long axes and a third one. Smaller grids are plain numbers, as in Minari.
    """
    # Channels are few, so the axis of the channels does not count as long.
    long, third = sum(size > MAX_GRID for size in shape) >= 2, len(shape) >= 3
    if np.dtype(dtype) not in (np.uint8, np.bool_):
        return long and third
    return long or (third and sum(size >= MIN_IMAGE for size in shape) >= 2)


def find_image(space: gym.Space[Any]) -> Image | None:
    """Return the image of an observation space with one image of bytes or bits, else None."""
    column = 0
    for leaf in leaves(space):
        if isinstance(leaf, spaces.Box) and leaf.dtype in (np.uint8, np.bool_) and is_image(leaf.shape, leaf.dtype):
            return Image(leaf.shape, column, max(int(leaf.high.max()), 1))
        column += spaces.flatdim(leaf)
    return None


def leaves(space: gym.Space[Any]) -> Iterator[gym.Space[Any]]:
    """Yield the parts of a space that have no parts, in its order."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        for sub in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            yield from leaves(sub)
    else:
        yield space


def pack(image: Image, rows: NDArray[Any]) -> NDArray[np.uint8]:
    """Return rows [T, A] of `encoding.rows` as bytes [T, 4 d + P]. Pixels are scaled so that 255 is the largest.

    Raises:
        ValueError: a pixel is no whole number from 0 to the largest value.
    """
    given, most = rows[:, image.first : image.first + image.pixels], image.high if image.high < 128 else 255
    # Otherwise 0.5 would become 0, and 256 too. Bytes are whole, and at most 255.
    if (given.dtype != np.uint8 or most < 255) and not ((given >= 0) & (given <= most) & (given % 1 == 0)).all():
        raise ValueError(f"an image with values other than whole numbers from 0 to {most}")
    pixels = given.astype(np.uint8, copy=False)
    if image.high < 128:
        pixels = pixels * np.uint8(255 // image.high)
    if pixels.shape == rows.shape:
        return pixels
    numbers = numbers_of(image, rows).astype(np.float32)
    return np.concatenate([np.ascontiguousarray(numbers).view(np.uint8), pixels], axis=1)


def numbers_of(image: Image, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the columns [..., d] beside the image of rows [..., A]."""
    return np.concatenate([rows[..., : image.first], rows[..., image.first + image.pixels :]], axis=-1)


class ImageRows:
    """Rows of a dataset as states `[4 d + n P]`, with normalised numbers and the frames up to a step.

    Args:
        trajectories: the dataset, whose observations hold an image.
        normalize: subtract the mean of the numbers and divide by their deviation.
    """

    def __init__(self, trajectories: Trajectories, normalize: bool) -> None:
        self._observations, self._frames = np.asarray(trajectories.observations), trajectories.frame_stack
        self._numbers, self._normalize = trajectories.numbers, normalize
        self._mean, self._inverse_std = trajectories.state_mean, 1.0 / trajectories.state_std

    def take(self, rows: NDArray[np.int64], _: Any, starts: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the states `[B, K, 4 d + n P]` of steps `rows [B, K]` of episodes that begin at `starts [B]`.

        Before the beginning of an episode its first frame is repeated.
        """
        n, bytes_of_numbers = self._frames, NUMBER_BYTES * self._numbers
        # Each frame is read once: those of a window, and the n - 1 before it. A pad's row is the first of its episode.
        earlier = np.maximum(rows[:, :1] - np.arange(n - 1, 0, -1), starts[:, None])  # [B, n - 1]
        found = self._observations.take(np.concatenate([earlier, rows], 1), axis=0)  # [B, n - 1 + K, 4 d + P]
        states: NDArray[np.uint8] = found[:, n - 1 :]
        numbers = states[..., :bytes_of_numbers]
        if self._normalize and self._numbers:
            plain = numbers.view(np.float32)  # [B, K, d], in place
            plain -= self._mean
            plain *= self._inverse_std
        if n == 1:
            return states
        stacks = np.lib.stride_tricks.sliding_window_view(found[..., bytes_of_numbers:], n, axis=1)  # [B, K, P, n]
        return np.concatenate([numbers, stacks.swapaxes(2, 3).reshape(*rows.shape, -1)], axis=-1)
