# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""One picture as each encoding stores it, made apart from the code under test."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

BGR = (2, 1, 0)
HEIGHT, WIDTH = 18, 24
RGB = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = np.repeat(RGB[..., :1], 3, axis=2)
RGBA = np.concatenate([RGB, np.full((HEIGHT, WIDTH, 1), 77, np.uint8)], axis=2)
CHANNELS = {
    'rgb': RGB,
    'bgr': RGB[..., BGR],
    'rgba': RGBA,
    'bgra': RGBA[..., (*BGR, 3)],
    'mono': RGB[..., :1],
}
BYTES = {f'{name}8': pixels for name, pixels in CHANNELS.items()}
BYTES |= {'8UC1': BYTES['mono8'], '8UC3': BYTES['bgr8'], '8UC4': BYTES['bgra8']}
"""Encodings with channels of 8 bits: (H, W, channels)."""


def raw(
    encoding: str,
    rows: np.ndarray,
    *,
    height: int = 0,
    width: int = 0,
    padding: int = 0,
    is_bigendian: int = 0,
) -> SimpleNamespace:
    """A message of these rows of bytes, each followed by `padding` bytes of 0xEE."""
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
    return SimpleNamespace(
        encoding=encoding,
        height=height or HEIGHT,
        width=width or WIDTH,
        step=padded.shape[1],
        is_bigendian=is_bigendian,
        data=padded.tobytes(),
    )


def raw_channels(encoding: str, padding: int = 0) -> SimpleNamespace:
    """RGB, or its red as grey, in an encoding of BYTES."""
    pixels = BYTES[encoding]
    return raw(encoding, pixels.reshape(HEIGHT, -1), padding=padding)


def raw_16bit(
    encoding: str, values: np.ndarray, *, padding: int = 0, is_bigendian: int = 0
) -> SimpleNamespace:
    """Values (H, W, ...) of 16 bits, in either byte order."""
    samples = values.reshape(len(values), -1).astype('>u2' if is_bigendian else '<u2')
    height, width = values.shape[:2]
    return raw(
        encoding,
        samples.view(np.uint8),
        height=height,
        width=width,
        padding=padding,
        is_bigendian=is_bigendian,
    )
