# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Thumbnails: what tells a cut from motion before any network has run.

A thumbnail is the picture on a coarse grid, with mean colour and contrast taken out, so that a change of
exposure is none. Each block of one is looked for in the other, a few cells around its place, so that motion
is little change too. In a cut nothing is found that is like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

_ROWS, _COLUMNS = 18, 24
_SAMPLES = 8
"""Pixels taken along each side of a cell; their mean stands for the cell's."""

_BLOCK = 3
_REACH = 3
"""Cells of a block's side, and how far it is looked for: an eighth of the width."""

_MIN_CONTRAST = 8.0
"""Grey levels. The noise of a picture with less contrast, a bare wall, is not taken for content."""

_MIN_DETAIL = 0.02
"""Added to a block's variance, that of the whole picture being 1: a bare block can differ by this much."""

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnail:
    """Blocks (N, K) of a picture, all places (N, S, K) around each that one of another may be found at, the
    sum of squares of each of both, and how much there is in it to be found.
    """

    blocks_NK: Array
    places_NSK: Array
    block_squares_N: Array
    place_squares_NS: Array
    detail: float


def make_thumbnail(image_HW3: NDArray[np.uint8]) -> Thumbnail:
    """Thumbnail of a uint8 image (H, W, 3) of any size."""
    cells = _cells(image_HW3)
    cells -= cells.mean(axis=(0, 1))
    cells /= max(float(cells.std()), _MIN_CONTRAST)
    blocks = _blocks(cells)
    inner = blocks - blocks.mean(axis=1, keepdims=True)
    detail = float(np.square(inner).mean(axis=(1, 2)).sum()) + _MIN_DETAIL * len(blocks)
    blocks_NK, places_NSK = blocks.reshape(len(blocks), -1), _places(cells)
    return Thumbnail(
        blocks_NK,
        places_NSK,
        np.einsum('nk,nk->n', blocks_NK, blocks_NK),
        np.einsum('nsk,nsk->ns', places_NSK, places_NSK),
        detail,
    )


def change(one: Thumbnail, other: Thumbnail) -> float:
    """How different two pictures are, 0..1: the share of their blocks' variance that is not found again.

    Symmetric. 0 for the same picture, below 0.5 for moving ones, 1 where blocks without detail would be as
    near.
    """
    return min(1.0, (_unfound(one, other) + _unfound(other, one)) / 2)


def _unfound(sought: Thumbnail, within: Thumbnail) -> float:
    # |a - b|^2 from the product: the difference would be written and read again for every place.
    product: Array = np.einsum('nsk,nk->ns', within.places_NSK, sought.blocks_NK)
    nearest = (within.place_squares_NS - 2 * product).min(axis=1) + sought.block_squares_N
    num_values: int = sought.blocks_NK.shape[1]
    return float(np.maximum(nearest, 0).sum()) / (num_values * sought.detail)


def _cells(image_HW3: NDArray[np.uint8]) -> Array:
    """Mean colour (18, 24, 3) of each cell, from samples. Rows are added up before columns are picked: whole
    rows are contiguous.
    """
    height, width = image_HW3.shape[:2]
    rows, columns = _samples(height, _ROWS * _SAMPLES), _samples(width, _COLUMNS * _SAMPLES)
    lines = image_HW3[rows].reshape(_ROWS, _SAMPLES, -1).sum(axis=1, dtype=np.uint16)
    picked = lines.reshape(_ROWS, width, 3)[:, columns].reshape(_ROWS, _COLUMNS, _SAMPLES, 3)
    cells: Array = picked.sum(axis=2, dtype=np.float32)
    return cells / np.float32(_SAMPLES * _SAMPLES)


def _blocks(cells: Array) -> Array:
    """(N, block pixels, 3)."""
    split = cells.reshape(_ROWS // _BLOCK, _BLOCK, _COLUMNS // _BLOCK, _BLOCK, 3)
    return split.transpose(0, 2, 1, 3, 4).reshape(-1, _BLOCK * _BLOCK, 3)


def _places(cells: Array) -> Array:
    """(N, shifts, block values): windows up to `_REACH` cells from each block; borders are repeated."""
    padded = np.pad(cells, ((_REACH, _REACH), (_REACH, _REACH), (0, 0)), mode='edge')
    row, column, channel = padded.strides
    num_shifts = 2 * _REACH + 1
    shape = (_ROWS // _BLOCK, _COLUMNS // _BLOCK, num_shifts, num_shifts, _BLOCK, _BLOCK, 3)
    strides = (row * _BLOCK, column * _BLOCK, row, column, row, column, channel)
    windows = as_strided(padded, shape, strides, writeable=False)
    return windows.reshape(-1, num_shifts * num_shifts, _BLOCK * _BLOCK * 3)


@lru_cache(maxsize=16)
def _samples(num_pixels: int, num_samples: int) -> NDArray[np.int64]:
    """Middles of equal parts of a side."""
    samples = (2 * np.arange(num_samples) + 1) * num_pixels // (2 * num_samples)
    samples.setflags(write=False)  # shared by every caller
    return samples
