"""Columns of JPEG or PNG frames, as Minari stores images of 32 x 32 and more unless `jpeg_encoding` is off."""

from __future__ import annotations

import io
import math
from collections.abc import Collection
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from snn_dt.data.file_faults import Declared

MAX_BYTES = 4 << 30
"""Largest size of the decoded frames of an episode."""


def is_encoded(column: Any, space: Any) -> bool:
    """Return whether a column that should hold images of `space` holds one file of bytes a step instead."""
    from minari.dataset.minari_storage import is_image_space

    # Frames of one length are an array [T, bytes], others an array [T] of arrays.
    flat = column.dtype == np.uint8 and column.ndim == 2 and column.shape[1] != math.prod(space.shape)
    return is_image_space(space) and (column.dtype == object or flat)


def decode(frames: Collection[Any], space: spaces.Box, declared: Declared) -> NDArray[np.uint8]:
    """Return the images [T, *shape] of T JPEG or PNG files; their size counts as `declared`.

    Raises:
        DataError: the frames are far larger than the files of the dataset.
        ValueError: a frame has another size, or is none, or they are too many for one episode.
    """
    from PIL import Image

    if len(frames) * math.prod(space.shape) > MAX_BYTES:
        raise ValueError(f"{len(frames)} frames of {space.shape}, more than {MAX_BYTES >> 30} GiB")
    declared.add(len(frames) * math.prod(space.shape))
    found = np.empty((len(frames), *space.shape), np.uint8)
    for index, frame in enumerate(frames):
        with Image.open(io.BytesIO(bytes(frame)), formats=["JPEG", "PNG"]) as image:
            # Before it is decoded: a small file can declare a large image.
            shape = (image.height, image.width, *([] if image.mode == "L" else [len(image.getbands())]))
            if shape != space.shape:
                raise ValueError(f"frame {index} of shape {shape}, expected {space.shape}")
            found[index] = np.asarray(image)
    return found
