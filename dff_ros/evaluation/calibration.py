# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How far a predicted disagreement can be believed: predicted against true, of frames and of cells."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dff_ros.evaluation.offsets import rounded

_NUM_BINS = 10

Cells = NDArray[np.float32]
Values = NDArray[np.float64]
Bins = list[list[float]]
"""[mean predicted, mean true, weight] of each bin that is not empty, by what was predicted."""


class Calibration:
    """Collects maps of one kind of answer.

    A frame's predicted disagreement is the mean of its map, as `Propagation.disagreement` is.
    """

    def __init__(self) -> None:
        self._frames: list[tuple[float, float]] = []
        self._cells = np.zeros((3, _NUM_BINS))

    def __len__(self) -> int:
        return len(self._frames)

    def add(
        self, predicted_hw: NDArray[np.float32], true_hw: NDArray[np.float32], weight_hw: NDArray[np.float32]
    ) -> None:
        """A frame: predicted and true shares of its cells, 0..1, and how much of each cell counts."""
        total = float(weight_hw.sum())
        if total <= 0:
            return
        self._frames.append(
            (float((predicted_hw * weight_hw).sum()) / total, float((true_hw * weight_hw).sum()) / total)
        )
        number = np.clip((predicted_hw * _NUM_BINS).astype(np.int64), 0, _NUM_BINS - 1).ravel()
        for row, values in enumerate((predicted_hw * weight_hw, true_hw * weight_hw, weight_hw)):
            self._cells[row] += np.bincount(number, values.ravel(), _NUM_BINS)

    def merge(self, other: Calibration) -> None:
        """Add what another one has collected."""
        self._frames += other._frames
        self._cells += other._cells

    @property
    def frames(self) -> Values:
        """(N, 2): predicted and true share of each frame."""
        return np.array(self._frames, np.float64).reshape(-1, 2)

    def frame_bins(self) -> Bins:
        """Tenths of the frames, in the order of what was predicted."""
        frames = self.frames
        order = np.argsort(frames[:, 0], kind='stable')
        parts = np.array_split(frames[order], min(_NUM_BINS, max(len(order), 1)))
        return [[*map(float, part.mean(0)), float(len(part))] for part in parts if len(part)]

    def cell_bins(self) -> Bins:
        """Tenths of the range of what was predicted; the weight is a number of cells."""
        rows = self._cells[:, self._cells[2] > 0].T
        return [[float(predicted / w), float(true / w), float(w)] for predicted, true, w in rows]

    def summary(self) -> dict[str, object]:
        """As JSON stores it. `correlation` (Pearson) and `rank_correlation` (Spearman) are of frames;
        `frame_error` and `cell_error` are the weighted means of |predicted - true| over the bins: expected
        calibration errors. None where there is too little for one.
        """
        frames = self.frames
        means = [float(frames[:, axis].mean()) if len(frames) else math.nan for axis in (0, 1)]
        order = np.argsort(frames, axis=0, kind='stable')
        ranks = np.argsort(order, axis=0, kind='stable').astype(np.float64)
        return {
            'num_frames': len(frames),
            'mean_predicted': _short(means[0]),
            'mean_true': _short(means[1]),
            'correlation': _short(correlation(frames)),
            'rank_correlation': _short(correlation(ranks)),
            'frame_error': _short(_error(self.frame_bins())),
            'cell_error': _short(_error(self.cell_bins())),
            'frame_bins': [[round(value, 4) for value in row] for row in self.frame_bins()],
            'cell_bins': [[round(value, 4) for value in row] for row in self.cell_bins()],
        }


def sum_of(parts: Iterable[Calibration]) -> Calibration:
    """All that they have collected."""
    total = Calibration()
    for part in parts:
        total.merge(part)
    return total


def correlation(pairs: Values) -> float:
    """Pearson's, of (N, 2); NaN of fewer than two, or where one of the two does not vary."""
    if len(pairs) < 2 or not (pairs.std(0) > 0).all():
        return float('nan')
    away = pairs - pairs.mean(0)
    return float((away[:, 0] * away[:, 1]).mean() / pairs.std(0).prod())


def _error(bins: Iterable[list[float]]) -> float:
    rows = list(bins)
    total = sum(weight for _, _, weight in rows)
    if not total:
        return float('nan')
    return sum(abs(predicted - true) * weight for predicted, true, weight in rows) / total


def _short(value: float) -> float | None:
    return rounded(float(value), 4)
