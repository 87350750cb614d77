"""Thumbnails: what tells a cut from motion before any network has run.

A thumbnail is the picture's brightness on a coarse grid, with mean and contrast taken out, so that a change
of exposure is none.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Thumbnail = NDArray[np.float32]

_ROWS, _COLUMNS = 24, 32
_SAMPLES = 4
"""Pixels taken along each side of a cell: their mean stands for the cell's."""

_MIN_CONTRAST = 4.0
"""Grey levels. Of a picture with less than this, noise is not blown up to a pattern."""


def make_thumbnail(image_HW3: NDArray[np.uint8]) -> Thumbnail:
    """Thumbnail (24, 32) float32 of an image (H, W, 3) of any size, deviation 1 and mean 0."""
    height, width = image_HW3.shape[:2]
    rows, columns = _places(height, _ROWS * _SAMPLES), _places(width, _COLUMNS * _SAMPLES)
    sampled = image_HW3[rows][:, columns]
    cells: Thumbnail = sampled.reshape(_ROWS, _SAMPLES, _COLUMNS, _SAMPLES * 3).mean(
        axis=(1, 3), dtype=np.float32
    )
    cells -= cells.mean()
    cells /= max(float(cells.std()), _MIN_CONTRAST)
    return cells


def change(one: Thumbnail, other: Thumbnail) -> float:
    """How different two pictures are, 0..1."""
    return min(1.0, float(np.abs(one - other).mean()))


@lru_cache(maxsize=16)
def _places(num_pixels: int, num_samples: int) -> NDArray[np.int64]:
    """Middles of equal parts of a side."""
    places = (2 * np.arange(num_samples) + 1) * num_pixels // (2 * num_samples)
    places.setflags(write=False)  # shared by every caller
    return places
