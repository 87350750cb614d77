# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Everything counted about the detections of one method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from dff_ros.errors import ShapeError
from dff_ros.evaluation.offsets import (
    check_interval,
    known_means,
    mean,
    rounded,
    rounded_all,
    worst_offset,
)
from dff_ros.evaluation.precision import Precision, average_precision
from dff_ros.evaluation.table import Cost, Name
from dff_ros.evaluation.truth import MOTIONS, Truth
from dff_ros.types import Detections


class DetectionFigures(TypedDict):
    """Percent; None where unknown.

    `ap50` and `ap` are means over the offsets 0..interval-1, each of them over the classes of the truth; the
    same of each class and, AP50, of slow, medium and fast objects. `loss` is per-frame AP50 minus `ap50`,
    `loss_ap` the same of `ap`.
    """

    ap50: float | None
    ap: float | None
    loss: float | None
    loss_ap: float | None
    by_offset: list[float | None]
    ap_by_offset: list[float | None]
    worst_offset: int | None
    worst_ap50: float | None
    ap50_per_class: dict[str, float | None]
    ap_per_class: dict[str, float | None]
    ap50_by_motion: dict[str, float | None]


class DetectionRow(Name, DetectionFigures, Cost):
    """One method at one key interval."""


class DetectionScores:
    """The detections of each offset; that of d has every frame once, from the key d frames before.

    `class_names`: of the class ids that count. The truth of each frame must be known when it is scored.
    """

    def __init__(self, num_offsets: int, class_names: Mapping[int, str], truth: Truth) -> None:
        self._class_names = dict(sorted(class_names.items()))
        self._truth = truth
        self._found: list[dict[int, Detections]] = [{} for _ in range(num_offsets)]
        self._precision: dict[int, Precision] = {}

    def update(self, offset: int, frame: int, found: Detections) -> None:
        """What was found in a frame that was propagated over `offset` frames; ShapeError if it was before."""
        if frame in self._found[offset]:
            raise ShapeError(f'offset {offset}: frame {frame} is counted twice')
        self._found[offset][frame] = found
        self._precision.clear()

    def precision(self, offset: int) -> Precision:
        """Of all frames at an offset."""
        if offset not in self._precision:
            self._precision[offset] = average_precision(
                self._truth, self._found[offset], tuple(self._class_names)
            )
        return self._precision[offset]

    def figures(self, interval: int) -> DetectionFigures:
        """Those at a key interval; ConfigError beyond the offsets counted."""
        check_interval(interval, len(self._found))
        scores = [self.precision(offset) for offset in range(interval)]
        by_offset, ap_by_offset = [score.ap50 for score in scores], [score.ap for score in scores]
        ap50, ap, worst = mean(by_offset), mean(ap_by_offset), worst_offset(by_offset)
        return {
            'ap50': rounded(ap50),
            'ap': rounded(ap),
            'loss': rounded(by_offset[0] - ap50),
            'loss_ap': rounded(ap_by_offset[0] - ap),
            'by_offset': rounded_all(by_offset),
            'ap_by_offset': rounded_all(ap_by_offset),
            'worst_offset': worst,
            'worst_ap50': None if worst is None else rounded(by_offset[worst]),
            'ap50_per_class': self._by_class([score.ap50_K for score in scores]),
            'ap_per_class': self._by_class([score.ap_K for score in scores]),
            'ap50_by_motion': dict(
                zip(MOTIONS, rounded_all(known_means([s.ap50_by_motion for s in scores])), strict=True)
            ),
        }

    def _by_class(self, rows_LK: list[tuple[float, ...]]) -> dict[str, float | None]:
        """Mean of each class over the offsets whose frames have it."""
        return dict(zip(self._class_names.values(), rounded_all(known_means(rows_LK)), strict=True))
