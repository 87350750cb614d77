# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Temporal consistency: does a pixel keep its label along the sequence that would be published?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ShapeError
from dff_ros.evaluation.offsets import mean


class Consistency:
    """Shares of sampled pixels whose label equals that of the frame before, followed along the motion.

    At interval l a frame of offset d > 0 comes after one of offset d - 1 from the same key frame, and a key
    frame after one of offset l - 1. With each frame as key in its turn, the interval's consistency is the
    mean over those l kinds of steps. It rewards a steady error too: read it beside the accuracy.
    """

    def __init__(self, num_offsets: int) -> None:
        self._within: NDArray[np.int64] = np.zeros((num_offsets, 2), np.int64)
        self._at_key: NDArray[np.int64] = np.zeros((num_offsets, 2), np.int64)

    def count(self, before_N: Sequence[NDArray[np.uint8]], now_N: Sequence[NDArray[np.uint8]]) -> None:
        """Count one frame. Item d of `now_N` holds its labels at N places, propagated over d frames; item d
        of `before_N` those of the frame before, where the motion comes from. ShapeError on unequal numbers.
        """
        for offset, labels in enumerate(before_N):
            self._at_key[offset] += _equal(labels, now_N[0])
        for offset, (labels, propagated) in enumerate(zip(before_N, now_N[1:], strict=False), 1):
            self._within[offset] += _equal(labels, propagated)

    def percent(self, interval: int) -> float:
        """Of the sequence published at a key interval; NaN where one of its kinds of steps never occurred."""
        steps = [*self._within[1:interval], self._at_key[interval - 1]]
        return mean(100.0 * int(hits) / int(total) if total else math.nan for hits, total in steps)


def _equal(before_N: NDArray[np.uint8], now_N: NDArray[np.uint8]) -> tuple[int, int]:
    if before_N.shape != now_N.shape:
        raise ShapeError(f'labels before are {before_N.shape}, now {now_N.shape}: they must be equal')
    return int(np.count_nonzero(before_N == now_N)), now_N.size
