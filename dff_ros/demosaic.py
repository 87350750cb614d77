# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Colour from a Bayer mosaic by bilinear interpolation, as OpenCV does it inside the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RED, _GREEN, _BLUE = 0, 1, 2
_BAND_ROWS = 32  # even, and small enough that the sums stay in the cache


def demosaic(mosaic_HW: NDArray[np.uint8], red: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of a mosaic whose first red sample is at (row, column) `red`, each 0 or 1.

    A missing colour is the rounded mean of the two or four nearest samples that have it; beyond the border
    the mosaic is mirrored, so that colours stay in their place. Sides may be odd, and are at least 2.
    """
    height, width = mosaic_HW.shape
    image = np.empty((height, width, 3), np.uint8)
    padded = np.pad(mosaic_HW, 1, mode='reflect')
    for top in range(0, height, _BAND_ROWS):
        bottom = min(top + _BAND_ROWS, height)
        _fill_band(image[top:bottom], padded[top : bottom + 2], red)
    return image


def _fill_band(image: NDArray[np.uint8], padded: NDArray[np.uint8], red: tuple[int, int]) -> None:
    """Write a band that begins on an even row; `padded` has a row or column more on each side."""
    samples = padded.astype(np.uint16)
    upright = samples[:-2] + samples[2:]
    sideways = samples[1:-1, :-2] + samples[1:-1, 2:]
    diagonal = (upright[:, :-2] + upright[:, 2:] + np.uint16(2)) >> np.uint16(2)
    upright = upright[:, 1:-1]
    cross = (upright + sideways + np.uint16(2)) >> np.uint16(2)
    upright, sideways = (upright + np.uint16(1)) >> np.uint16(1), (sideways + np.uint16(1)) >> np.uint16(1)
    own = padded[1:-1, 1:-1]
    row, column = red
    for is_blue_row, is_blue_column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        site = np.s_[row ^ is_blue_row :: 2, column ^ is_blue_column :: 2]
        if is_blue_row == is_blue_column:
            sources = (own, cross, diagonal) if not is_blue_row else (diagonal, cross, own)
        else:
            sources = (upright, own, sideways) if is_blue_row else (sideways, own, upright)
        for channel, source in zip((_RED, _GREEN, _BLUE), sources, strict=True):
            image[site][..., channel] = source[site]
