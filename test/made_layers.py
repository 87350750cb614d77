# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Textures and warping for the tests of made pairs."""

import cv2
import numpy as np

from dff_ros.data.pair_sample import PairSample


def smooth_texture(seed: int, size: tuple[int, int] = (150, 200)) -> np.ndarray:
    """Colours that change by a few grey levels per pixel: bilinear sampling twice changes them little."""
    noise = np.random.default_rng(seed).uniform(0, 255, (size[0] // 12, size[1] // 12, 3))
    return (
        cv2.resize(noise.astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
        .clip(0, 255)
        .astype(np.uint8)
    )


def warped_key(pair: PairSample) -> np.ndarray:
    """The key image, sampled bilinearly at p + flow(p)."""
    height, width = pair.is_visible_HW.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x, y = x + pair.flow_2HW[0], y + pair.flow_2HW[1]
    left, top = (np.clip(np.floor(v), 0, n - 2).astype(int) for v, n in ((x, width), (y, height)))
    a, b = (x - left)[..., None], (y - top)[..., None]
    key = pair.key_HW3.astype(np.float64)
    upper = (1 - a) * key[top, left] + a * key[top, left + 1]
    lower = (1 - a) * key[top + 1, left] + a * key[top + 1, left + 1]
    return (1 - b) * upper + b * lower
