"""Observations with an image, as rows of bytes.

A row holds the float32 numbers of the other parts of the observation, four bytes each, then the pixels in the order of
their space: `[4 d + P]` uint8. So an image takes one byte a pixel in the cache and in a batch, and the numbers lose
nothing. A frame stack repeats the pixels: `[4 d + n P]`, the oldest frame first.

Shapes: `T` steps; `d` numbers beside the image; `P` pixels, channels included; `A = d + P` columns.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

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
    """Return rows [T, A] of `encoding.rows` as bytes [T, 4 d + P]. Pixels are scaled so that 255 is the largest."""
    pixels = rows[:, image.first : image.first + image.pixels].astype(np.uint8, copy=False)
    if image.high < 128:
        pixels = pixels * np.uint8(255 // image.high)
    if pixels.shape == rows.shape:
        return pixels
    numbers = numbers_of(image, rows).astype(np.float32)
    return np.concatenate([np.ascontiguousarray(numbers).view(np.uint8), pixels], axis=1)


def numbers_of(image: Image, rows: NDArray[Any]) -> NDArray[Any]:
    """Return the columns [..., d] beside the image of rows [..., A]."""
    return np.concatenate([rows[..., : image.first], rows[..., image.first + image.pixels :]], axis=-1)
