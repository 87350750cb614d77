# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Accuracy by offset, the number of frames since the key frame, and what it says about a key interval."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ConfigError
from dff_ros.evaluation.metrics import ConfusionMatrix


@dataclass(frozen=True, slots=True)
class IntervalScore:
    """What a key interval l amounts to, in percent; NaN where there is nothing to tell it by.

    `by_offset`: mIoU of each offset 0..l-1. `miou`: their mean, NaN if one is missing. `iou_per_class`: the
    same mean for each class, over the offsets at which the truth has it. `pixel_accuracy`: mean share of
    equal pixels. `worst_offset`: that of the lowest mIoU (the smallest of equals), None without any.
    """

    miou: float
    pixel_accuracy: float
    iou_per_class: tuple[float, ...]
    by_offset: tuple[float, ...]
    worst_offset: int | None


class OffsetScores:
    """A confusion matrix for each offset; that of d holds every pair of a frame and the key d frames before.

    Each frame is a key in its turn: the score of an interval is that of all its phases, not of a lucky one.
    """

    def __init__(self, num_offsets: int, num_classes: int) -> None:
        self.by_offset = tuple(ConfusionMatrix(num_classes) for _ in range(num_offsets))

    def update(self, offset: int, truth_HW: NDArray[np.uint8], predicted_HW: NDArray[np.uint8]) -> None:
        """Count the label map that was propagated over `offset` frames; raises as ConfusionMatrix.update."""
        self.by_offset[offset].update(truth_HW, predicted_HW)

    def score(self, interval: int) -> IntervalScore:
        """Over the offsets 0..interval-1; ConfigError beyond the offsets counted."""
        check_interval(interval, len(self.by_offset))
        matrices = self.by_offset[:interval]
        by_offset = tuple(matrix.miou() for matrix in matrices)
        return IntervalScore(
            miou=mean(by_offset),
            pixel_accuracy=mean(matrix.pixel_accuracy() for matrix in matrices),
            iou_per_class=known_means([matrix.iou_per_class().tolist() for matrix in matrices]),
            by_offset=by_offset,
            worst_offset=worst_offset(by_offset),
        )


def check_interval(interval: int, num_offsets: int) -> None:
    """ConfigError for an interval with offsets that were not counted."""
    if not 1 <= interval <= num_offsets:
        raise ConfigError(f'interval: got {interval}, allowed is from 1 to {num_offsets}')


def worst_offset(by_offset: Sequence[float]) -> int | None:
    """That of the lowest figure (the smallest of equals); None where all are NaN."""
    known = [(value, offset) for offset, value in enumerate(by_offset) if not math.isnan(value)]
    return min(known)[1] if known else None


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; NaN of nothing, and where a value is NaN."""
    kept = list(values)
    return math.fsum(kept) / len(kept) if kept else math.nan


def known_mean(values: Iterable[float]) -> float:
    """Arithmetic mean of those that are not NaN; NaN without any."""
    return mean(value for value in values if not math.isnan(value))


def known_means(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """`known_mean` of each column."""
    return tuple(known_mean(column) for column in zip(*rows, strict=True))


def rounded(value: float, digits: int = 2) -> float | None:
    """As JSON stores it; None for NaN."""
    return None if math.isnan(value) else round(value, digits)


def rounded_all(values: Sequence[float], digits: int = 2) -> list[float | None]:
    """`rounded` of each."""
    return [rounded(value, digits) for value in values]
