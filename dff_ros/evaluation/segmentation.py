# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Everything counted about the label maps of one method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from dff_ros.evaluation.consistency import Consistency
from dff_ros.evaluation.offsets import OffsetScores, rounded, rounded_all
from dff_ros.evaluation.table import Cost, Name


class Accuracy(TypedDict):
    """The part of a row that needs labels."""

    miou: float | None
    loss: float | None
    iou_per_class: dict[str, float | None] | None
    by_offset: list[float | None] | None
    worst_offset: int | None
    worst_miou: float | None


class Figures(Accuracy):
    """Percent; None where unknown.

    `miou`, `iou_per_class` and `agreement` are means over the offsets 0..interval-1 (see IntervalScore);
    `loss` is per-frame mIoU minus `miou`. `agreement` is the share of pixels labelled as by per-frame
    inference and `agreement_miou` the mIoU against it; both contain offset 0, which agrees by definition.
    """

    agreement: float | None
    agreement_miou: float | None
    agreement_by_offset: list[float | None]
    consistency: float | None


class SegmentationRow(Name, Figures, Cost):
    """One method at one key interval."""


class SegmentationScores:
    """Accuracy and agreement by offset, and consistency."""

    def __init__(self, num_offsets: int, class_names: Sequence[str]) -> None:
        self._class_names = tuple(class_names)
        self.accuracy = OffsetScores(num_offsets, len(class_names))
        self.agreement = OffsetScores(num_offsets, len(class_names))
        self.consistency = Consistency(num_offsets)

    @property
    def is_labelled(self) -> bool:
        """Whether any label was counted."""
        return self.accuracy.by_offset[0].num_pixels > 0

    def figures(self, interval: int) -> Figures:
        """Those at a key interval."""
        agreement = self.agreement.score(interval)
        return {
            **self._accuracy(interval),
            'agreement': rounded(agreement.pixel_accuracy),
            'agreement_miou': rounded(agreement.miou),
            'agreement_by_offset': rounded_all(
                [matrix.pixel_accuracy() for matrix in self.agreement.by_offset[:interval]]
            ),
            'consistency': rounded(self.consistency.percent(interval)),
        }

    def _accuracy(self, interval: int) -> Accuracy:
        if not self.is_labelled:
            return {
                'miou': None, 'loss': None, 'iou_per_class': None, 'by_offset': None, 'worst_offset': None,
                'worst_miou': None,
            }  # fmt: skip
        score = self.accuracy.score(interval)
        worst = score.worst_offset
        return {
            'miou': rounded(score.miou),
            'loss': rounded(score.by_offset[0] - score.miou),
            'iou_per_class': dict(zip(self._class_names, rounded_all(score.iou_per_class), strict=True)),
            'by_offset': rounded_all(score.by_offset),
            'worst_offset': worst,
            'worst_miou': None if worst is None else rounded(score.by_offset[worst]),
        }
