# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""YUV to RGB: BT.601, limited range (16..235), the fixed-point arithmetic of OpenCV bit by bit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Coefficients times 2**20: 1.164 (Y), 1.596 (V to red), 0.813 and 0.391 (V, U to green), 2.018 (U to blue).
_Y, _RED_V, _GREEN_V, _GREEN_U, _BLUE_U, _SHIFT = 1220542, 1673527, -852492, -409993, 2116026, 20
_HALF = 1 << (_SHIFT - 1)
_MAX_BAND_ROWS = 48  # at 1280 pixels what is summed then stays in the cache: half the time


def yuv_to_rgb(
    y_HW: NDArray[np.uint8], u_hw: NDArray[np.uint8], v_hw: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of a luma plane and two chroma planes, which may have half as many rows or columns.

    Each chroma sample serves its block of luma samples (nothing is interpolated), as in OpenCV.
    """
    (height, width), (chroma_height, chroma_width) = y_HW.shape, u_hw.shape
    across, down = width // chroma_width, height // chroma_height
    image = np.empty((height, width, 3), np.uint8)
    step = _MAX_BAND_ROWS // down
    for top in range(0, chroma_height, step):
        rows = slice(top * down, (top + step) * down)
        luma = np.maximum(y_HW[rows], np.uint8(16)) - np.uint8(16)
        scaled = luma.astype(np.int32).reshape(-1, down, chroma_width, across) * np.int32(_Y)
        target = image[rows].reshape(-1, down, chroma_width, across, 3)
        for channel, shift in enumerate(_shifts(u_hw[top : top + step], v_hw[top : top + step])):
            for column in range(across):
                value = scaled[..., column] + shift[:, None]
                value >>= _SHIFT
                target[..., column, channel] = np.clip(value, 0, 255, out=value)
    return image


def _shifts(u: NDArray[np.uint8], v: NDArray[np.uint8]) -> tuple[NDArray[np.int32], ...]:
    """What the chroma adds to red, green and blue."""
    u_centred, v_centred = u.astype(np.int32) - np.int32(128), v.astype(np.int32) - np.int32(128)
    return (
        v_centred * np.int32(_RED_V) + np.int32(_HALF),
        v_centred * np.int32(_GREEN_V) + u_centred * np.int32(_GREEN_U) + np.int32(_HALF),
        u_centred * np.int32(_BLUE_U) + np.int32(_HALF),
    )
