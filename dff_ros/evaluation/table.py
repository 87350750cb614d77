"""The table of an evaluation: one row for each method and key interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from dff_ros.evaluation.consistency import Consistency
from dff_ros.evaluation.offsets import OffsetScores, rounded, rounded_all
from dff_ros.evaluation.speed import StageCost, StageTimes

METHODS = {
    'dff': 'the bundle as it is',
    'dff-plain': 'without its correction branch',
    'copy': 'copied features',
    'dis': 'hand-made DIS flow',
    'clockwork': 'shallow stages of the frame with deep ones of the key frame, in torch',
    'copy-corrected': 'copied features, corrected',
    'dis-corrected': 'DIS flow, corrected',
}
"""What can be compared, in words. The paper's baselines, without the correction that it lacks, have the plain
names.
"""


class Accuracy(TypedDict):
    """The part of a row that needs labels."""

    miou: float | None
    loss: float | None
    iou_per_class: dict[str, float | None] | None
    by_offset: list[float | None] | None
    worst_offset: int | None
    worst_miou: float | None


class Row(Accuracy):
    """One method at one key interval; accuracies in percent, None where unknown.

    `miou`, `iou_per_class` and `agreement` are means over the offsets 0..interval-1 (see IntervalScore);
    `loss` is per-frame mIoU minus `miou`. `agreement` is the share of pixels labelled as by per-frame
    inference and `agreement_miou` the mIoU against it; both contain offset 0, which agrees by definition.
    `ms_*` of stages are medians, `ms_per_frame` the mean time of a frame at the interval. `speedup` is
    measured from the means, `eq7` equation (7) with the stages' medians, `eq7_gmac` with multiply-adds.
    Times and speed-ups are those of the row's `runtime`, against per-frame inference in the same.
    """

    method: str
    flow: str
    runtime: str
    interval: int
    agreement: float | None
    agreement_miou: float | None
    agreement_by_offset: list[float | None]
    consistency: float | None
    ms_extract: float | None
    ms_propagate: float | None
    ms_predict: float | None
    ms_per_frame: float | None
    speedup: float | None
    eq7: float | None
    gmac_per_frame: float | None
    eq7_gmac: float | None


class MethodScores:
    """Everything counted about one flow source, by offset."""

    def __init__(self, num_offsets: int, num_classes: int) -> None:
        self.accuracy = OffsetScores(num_offsets, num_classes)
        self.agreement = OffsetScores(num_offsets, num_classes)
        self.consistency = Consistency(num_offsets)
        self.times = StageTimes(num_offsets)

    @property
    def is_labelled(self) -> bool:
        """Whether any label was counted."""
        return self.accuracy.by_offset[0].num_pixels > 0

    def row(
        self,
        method: str,
        flow: str,
        runtime: str,
        interval: int,
        class_names: Sequence[str],
        gmac: StageCost | None,
    ) -> Row:
        """The figures at a key interval. `gmac`: multiply-adds of the stages, None where not counted."""
        agreement = self.agreement.score(interval)
        stages_ms = self.times.medians()
        return {
            'method': method,
            'flow': flow,
            'runtime': runtime,
            'interval': interval,
            **self._accuracy(interval, class_names),
            'agreement': rounded(agreement.pixel_accuracy),
            'agreement_miou': rounded(agreement.miou),
            'agreement_by_offset': rounded_all(
                [matrix.pixel_accuracy() for matrix in self.agreement.by_offset[:interval]]
            ),
            'consistency': rounded(self.consistency.percent(interval)),
            'ms_extract': rounded(stages_ms.extract, 3),
            'ms_propagate': rounded(stages_ms.propagate, 3),
            'ms_predict': rounded(stages_ms.predict, 3),
            'ms_per_frame': rounded(self.times.mean_ms(interval), 3),
            'speedup': rounded(self.times.speedup(interval), 3),
            'eq7': rounded(stages_ms.speedup(interval), 3),
            'gmac_per_frame': None if gmac is None else rounded(gmac.per_frame(interval), 3),
            'eq7_gmac': None if gmac is None else rounded(gmac.speedup(interval), 3),
        }

    def _accuracy(self, interval: int, class_names: Sequence[str]) -> Accuracy:
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
            'iou_per_class': dict(zip(class_names, rounded_all(score.iou_per_class), strict=True)),
            'by_offset': rounded_all(score.by_offset),
            'worst_offset': worst,
            'worst_miou': None if worst is None else rounded(score.by_offset[worst]),
        }
