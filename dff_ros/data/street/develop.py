# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""From the rendered colours to what a camera would give: haze, blur, vignetting, response, noise."""

import cv2
import numpy as np

from dff_ros.data.street.hashing import rng_of, uniforms
from dff_ros.data.street.look import Light

_MARGIN = 61


class Film:
    """The camera's response of one street; noise differs by frame."""

    def __init__(self, seed: int, size: tuple[int, int], light: Light) -> None:
        self._seed, self._size, self._light = seed, size, light
        rng = rng_of(seed, 95)
        h, w = size
        grain = rng.standard_normal((h + _MARGIN, w + _MARGIN, 3), dtype=np.float32) * light.noise
        grain += rng.standard_normal((h + _MARGIN, w + _MARGIN, 1), dtype=np.float32) * light.noise * 0.7
        self._grain = np.round(grain).astype(np.int16)
        y, x = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
        self._vignette = (1 - rng.uniform(0.02, 0.16) * (x * x + y * y)).astype(np.float32)
        self._haze = np.empty((h, w, 4), np.uint8)
        self._haze[:] = (*np.clip(light.sky_low, 0, 255).astype(np.uint8), 0)
        values = np.arange(256) / 255.0
        curve = [255 * np.clip(values * gain, 0, 1) ** light.gamma for gain in light.white]
        self._curve = np.stack(curve, -1)

    def develop(self, index: int, colour: np.ndarray, inverse_depth: np.ndarray) -> np.ndarray:
        """The RGB image (H, W, 3) uint8 of RGBA colours and inverse depth in 1/m (0: infinitely far)."""
        light = self._light
        depth = 1.0 / np.maximum(inverse_depth, 1e-3)
        clear = np.exp(-light.haze_per_m * depth)
        clear[inverse_depth <= 0] = 1
        image = cv2.blendLinear(colour, self._haze, clear, 1 - clear)
        image = cv2.cvtColor(image, cv2.COLOR_RGBA2RGB)
        if light.blur > 0.3:
            sigma = light.blur * max(1.0, self._size[0] / 480)
            image = cv2.GaussianBlur(image, (3, 3) if sigma < 1 else (5, 5), sigma)
        image = cv2.LUT(image, self._table(index))
        image = cv2.transform(image, _saturation(light.saturation))
        return self._expose(index, image)

    def _table(self, index: int) -> np.ndarray:
        drift = 1 + 0.06 * np.sin(index * 0.011 + 6.28 * uniforms(1, self._seed, 96)[0])
        return np.clip(self._curve * self._light.exposure * drift, 0, 255).astype(np.uint8)[None]

    def _expose(self, index: int, image: np.ndarray) -> np.ndarray:
        h, w = self._size
        a, b = (int(u * _MARGIN) for u in uniforms(2, self._seed, 97, index))
        shaded = cv2.multiply(image, cv2.merge([self._vignette] * 3), dtype=cv2.CV_8U)
        return cv2.add(shaded, self._grain[a : a + h, b : b + w], dtype=cv2.CV_8U)


def _saturation(amount: float) -> np.ndarray:
    weights = np.array([0.299, 0.587, 0.114])
    return (amount * np.eye(3) + (1 - amount) * weights[None]).astype(np.float32)
