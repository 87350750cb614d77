# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Textures filtered for each axis apart (walls and roads are seen at a slant), and noise."""

from collections.abc import Callable

import cv2
import numpy as np

_MAX_LEVEL = 9


class Texture:
    """RGBA uint8 (h, w, 4), coloured also where alpha is 0; a label map (h, w) for mixed surfaces."""

    def __init__(self, rgba: np.ndarray, labels: np.ndarray | None = None) -> None:
        self.size = rgba.shape[:2]
        self._levels: dict[tuple[int, int, int], np.ndarray] = {(0, 0, 16): _pad(rgba)}
        self._labels = labels
        self._label_levels: dict[tuple[int, int], np.ndarray] = {}

    def level(self, level_v: int, level_u: int, gain: int = 16) -> np.ndarray:
        """The texture with height / 2^level_v and width / 2^level_u, and a transparent ring of one texel.

        Colours are multiplied by gain / 16.
        """
        key = (*self._clamp(level_v, level_u), gain)
        if key not in self._levels:
            base = self._levels[(0, 0, 16)][1:-1, 1:-1]
            small = cv2.resize(base, self._shape(key), interpolation=cv2.INTER_AREA)
            self._levels[key] = _pad(cv2.multiply(small, np.array([gain / 16] * 3 + [1.0])))
        return self._levels[key]

    def labels(self, level_v: int, level_u: int) -> np.ndarray:
        """The label map on the same grid as `level`, with its ring; all 0 where none was given."""
        if self._labels is None:
            self._labels = np.zeros(self.size, np.uint8)
        key = self._clamp(level_v, level_u)
        if key not in self._label_levels:
            small = cv2.resize(self._labels, self._shape(key), interpolation=cv2.INTER_NEAREST)
            self._label_levels[key] = cv2.copyMakeBorder(small, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        return self._label_levels[key]

    def mirrored(self) -> 'Texture':
        """The same texture with left and right exchanged."""
        base = self._levels[(0, 0, 16)][1:-1, 1:-1]
        return Texture(
            np.ascontiguousarray(base[:, ::-1]), None if self._labels is None else self._labels[:, ::-1]
        )

    def _clamp(self, level_v: int, level_u: int) -> tuple[int, int]:
        h, w = self.size
        return (
            max(0, min(level_v, _MAX_LEVEL, h.bit_length() - 2)),
            max(0, min(level_u, _MAX_LEVEL, w.bit_length() - 2)),
        )

    def _shape(self, key: tuple[int, ...]) -> tuple[int, int]:
        return max(1, self.size[1] >> key[1]), max(1, self.size[0] >> key[0])


class Deferred:
    """A texture that is painted when it is first seen; `size` is known before."""

    def __init__(self, size: tuple[int, int], paint: Callable[[], Texture]) -> None:
        self.size = size
        self._paint = paint
        self._texture: Texture | None = None

    def level(self, level_v: int, level_u: int, gain: int = 16) -> np.ndarray:
        """As `Texture.level`."""
        return self._painted().level(level_v, level_u, gain)

    def labels(self, level_v: int, level_u: int) -> np.ndarray:
        """As `Texture.labels`."""
        return self._painted().labels(level_v, level_u)

    def _painted(self) -> Texture:
        if self._texture is None:
            self._texture = self._paint()
        return self._texture


def _pad(rgba: np.ndarray) -> np.ndarray:
    padded = cv2.copyMakeBorder(rgba, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    for edge in (padded[0], padded[-1], padded[:, 0], padded[:, -1]):
        edge[..., 3] = 0
    return padded


def noise(
    rng: np.random.Generator, shape: tuple[int, int], cells: tuple[float, ...], weights: tuple[float, ...]
) -> np.ndarray:
    """Noise (h, w) float32 of about zero mean: one smooth grid of +-weight per cell size in texels."""
    total = np.zeros(shape, np.float32)
    for cell, weight in zip(cells, weights, strict=True):
        grid = (max(2, int(shape[0] / cell) + 2), max(2, int(shape[1] / cell) + 2))
        layer: np.ndarray = rng.random(grid, dtype=np.float32) - 0.5
        if cell > 1:
            layer = cv2.resize(layer, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
        total += 2 * weight * layer[: shape[0], : shape[1]]
    return total


def rgba_of(rgb: np.ndarray, alpha: np.ndarray | None = None) -> np.ndarray:
    """Float colours in 0..255 (h, w, 3) and alpha 0..255 (h, w), opaque by default, as uint8 RGBA."""
    out = cv2.cvtColor(np.clip(rgb, 0, 255).astype(np.uint8), cv2.COLOR_RGB2RGBA)
    if alpha is not None:
        out[..., 3] = alpha
    return out


def flat(shape: tuple[int, int], colour: tuple[float, float, float] | np.ndarray) -> np.ndarray:
    """One colour as float32 (h, w, 3)."""
    return np.broadcast_to(np.asarray(colour, np.float32), (*shape, 3)).copy()


def write(
    canvas: np.ndarray,
    text: str,
    at: tuple[int, int],
    scale: float,
    colour: tuple[float, float, float],
    thickness: int,
) -> None:
    """Text on a float canvas (cv2 writes on uint8 only)."""
    page = np.clip(canvas, 0, 255).astype(np.uint8)
    canvas[:] = cv2.putText(page, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness)
