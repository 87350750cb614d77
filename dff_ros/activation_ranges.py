# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Ranges of activations for 8-bit quantisation, found while the networks run on calibration images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVELS = 256

_HALF = 4096
"""Bins on each side of zero."""
_SHRINKS = np.geomspace(0.1, 1.0, 40)
"""Shares of the whole range that are tried: what lies beyond is clipped."""


class ActivationRange:
    """Histogram of one tensor's values over any number of images; its limits grow with the values."""

    def __init__(self) -> None:
        self._limit = 0.0
        self._counts = np.zeros(2 * _HALF, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count the values of an image."""
        limit = max(float(values.max()), -float(values.min()))
        if limit == 0:
            self._counts[_HALF] += values.size
            return
        if self._limit == 0:
            self._limit = limit
        while self._limit < limit:
            self._widen()
        self._counts += np.histogram(values, 2 * _HALF, (-self._limit, self._limit))[0]

    def limits(self) -> tuple[float, float]:
        """(lowest, highest) value that 8 bits are to hold, 0 among them: of the whole range and shares of it
        the one with the smallest mean squared error of rounding and clipping.
        """
        used = np.flatnonzero(self._counts)
        if self._limit == 0 or not used.size:
            return 0.0, 1.0
        width = self._limit / _HALF
        edges = (np.arange(2 * _HALF + 1) - _HALF) * width
        lowest, highest = min(edges[used[0]], 0.0), max(edges[used[-1] + 1], 0.0)
        centres, counts = edges[used] + width / 2, self._counts[used]
        # What a ReLU made 0 is 0, not half a bin.
        centres[used == _HALF] = 0.0
        errors = [_error(centres, counts, lowest * share, highest * share) for share in _SHRINKS]
        share = _SHRINKS[int(np.argmin(errors))]
        return float(lowest * share), float(highest * share)

    def _widen(self) -> None:
        merged = self._counts.reshape(-1, 2).sum(1)
        self._counts = np.zeros_like(self._counts)
        self._counts[_HALF // 2 : _HALF // 2 + _HALF] = merged
        self._limit *= 2


def _error(values: NDArray[np.floating], counts: NDArray[np.int64], lowest: float, highest: float) -> float:
    step = (highest - lowest) / (LEVELS - 1)
    zero = round(-lowest / step)
    kept = (np.clip(np.round(values / step) + zero, 0, LEVELS - 1) - zero) * step
    return float((counts * (kept - values) ** 2).sum())
