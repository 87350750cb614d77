# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Accuracy of label maps and percentiles of latencies. Accuracies are in percent, as they are published."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ConfigError, ShapeError
from dff_ros.types import UNLABELED

_NUM_PAIRS = (UNLABELED + 1) ** 2


class ConfusionMatrix:
    """Counts pixels by true and predicted class, over any number of frames.

    `counts_KK1[t, p]` are the pixels of true class t that were given class p; the last column holds those
    left without a decision (255), which count as missed. Pixels whose truth is 255 are left out.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes < UNLABELED:
            raise ConfigError(f'num_classes: got {num_classes}, allowed is from 1 to {UNLABELED - 1}')
        self.num_classes = num_classes
        self.counts_KK1: NDArray[np.int64] = np.zeros((num_classes, num_classes + 1), np.int64)

    def update(self, labels_HW: NDArray[np.uint8], predicted_HW: NDArray[np.uint8]) -> None:
        """Count one frame (or batch); ShapeError on unequal shapes or a class id beyond the last class."""
        if labels_HW.shape != predicted_HW.shape:
            raise ShapeError(
                f'labels are {labels_HW.shape} and the prediction {predicted_HW.shape}: they must be equal'
            )
        # One pass over the pixels for all pairs of bytes: several times faster than masking the unlabelled.
        pairs = np.bincount((labels_HW.astype(np.uint16) << 8 | predicted_HW).ravel(), minlength=_NUM_PAIRS)
        counts = pairs.reshape(UNLABELED + 1, UNLABELED + 1)[:UNLABELED]
        self._check('labels', counts.sum(1))
        self._check('prediction', counts[:, :UNLABELED].sum(0))
        num_classes = self.num_classes
        self.counts_KK1[:, :num_classes] += counts[:num_classes, :num_classes]
        self.counts_KK1[:, num_classes] += counts[:num_classes, UNLABELED]

    @property
    def num_pixels(self) -> int:
        """Labelled pixels counted so far."""
        return int(self.counts_KK1.sum())

    def iou_per_class(self) -> NDArray[np.float64]:
        """Intersection over union of each class in percent, (K,); NaN where the truth lacks the class."""
        square = self.counts_KK1[:, : self.num_classes]
        hit = np.diagonal(square).astype(np.float64)
        truth = self.counts_KK1.sum(1)
        union = truth + square.sum(0) - hit
        return np.where(truth > 0, 100.0 * hit / np.maximum(union, 1), np.nan)

    def miou(self) -> float:
        """Mean of `iou_per_class` over the classes of the ground truth, in percent; NaN without any pixel."""
        iou = self.iou_per_class()
        present = iou[~np.isnan(iou)]
        return float(present.mean()) if present.size else math.nan

    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that got their class, in percent; NaN without any pixel."""
        if self.num_pixels == 0:
            return math.nan
        return 100.0 * float(np.trace(self.counts_KK1[:, : self.num_classes])) / self.num_pixels

    def summary(self, class_names: Sequence[str]) -> dict[str, object]:
        """As JSON stores it, to 0.01: miou, pixel_accuracy, iou_per_class by name (None: not there)."""
        if len(class_names) != self.num_classes:
            raise ShapeError(f'{len(class_names)} class names for {self.num_classes} classes')
        per_class = dict(zip(class_names, map(_rounded, self.iou_per_class().tolist()), strict=True))
        return {
            'miou': _rounded(self.miou()),
            'pixel_accuracy': _rounded(self.pixel_accuracy()),
            'iou_per_class': per_class,
        }

    def _check(self, what: str, counts: NDArray[np.int64]) -> None:
        ids = np.flatnonzero(counts)
        if ids.size and ids[-1] >= self.num_classes:
            raise ShapeError(f'{what}: class id {ids[-1]} is beyond the highest, {self.num_classes - 1}')


def percentiles(values: Sequence[float], ranks: Sequence[float] = (50, 99)) -> dict[str, float | None]:
    """`{'p50': ..., 'p99': ...}`, linear between neighbours; None where there are no values."""
    names = [f'p{rank:g}' for rank in ranks]
    if len(values) == 0:
        return dict.fromkeys(names)
    found = np.percentile(np.asarray(values, np.float64), ranks)
    return dict(zip(names, (float(value) for value in found), strict=True))


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)
