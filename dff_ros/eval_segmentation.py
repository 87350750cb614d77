# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Evaluation of label maps: accuracy, agreement with per-frame inference, temporal consistency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend
from dff_ros.bundle import Bundle
from dff_ros.errors import ConfigError
from dff_ros.evaluation.segmentation import Figures, SegmentationScores
from dff_ros.label_motion import LabelMotion, Step
from dff_ros.methods import Setup
from dff_ros.sources import FrameSource, SourceFrame

LabelMap = NDArray[np.uint8]


class SegmentationTask:
    """Scores of label maps. Of a source without labels, or with `use_labels` false, there is agreement alone.

    ConfigError for a bundle without the head, and for labels of other classes than the bundle's.
    """

    name = 'segmentation'
    notes: Sequence[str] = ()

    def __init__(
        self, bundle: Bundle, source: FrameSource, num_offsets: int, *, use_labels: bool, num_threads: int
    ) -> None:
        self._class_names = bundle.spec.class_names
        if not self._class_names:
            tasks = ', '.join(bundle.spec.tasks)
            raise ConfigError(f'bundle {bundle.name} has no segmentation head; it has {tasks} (--task)')
        self.has_truth = use_labels and _has_labels(source, self._class_names)
        self._num_offsets = num_offsets
        self._scores: dict[Setup, SegmentationScores] = {}
        self._before: dict[Setup, list[LabelMap]] = {}
        self._motion = LabelMotion(num_threads)
        self._labels: LabelMap | None = None
        self._step: Step | None = None

    def predict(
        self, backend: Backend[object, object], feature: object, image_HW3: NDArray[np.uint8]
    ) -> LabelMap:
        """The label map of an image, at its size."""
        size = image_HW3.shape[0], image_HW3.shape[1]
        return backend.predict(feature, size, size).label_map_HW

    def is_labelled(self, item: SourceFrame) -> bool:
        """Whether the source has the truth of this frame."""
        return item.labels_HW is not None

    def begin(self, item: SourceFrame, frame: int, sequence: int) -> None:
        """The answers counted next are those to this frame."""
        self._labels = item.labels_HW if self.has_truth else None
        self._step = self._motion.step(item.image_HW3)

    def forget(self) -> None:
        """The next answers do not follow those before."""
        self._before.clear()
        self._motion.reset()

    def count(self, setup: Setup, answers: Sequence[LabelMap]) -> None:
        """Item d is the label map propagated over d frames; ShapeError where the labels have another size."""
        scores = self._scores_of(setup)
        for offset, answer in enumerate(answers):
            scores.agreement.update(offset, answers[0], answer)
            if self._labels is not None:
                scores.accuracy.update(offset, self._labels, answer)
        step, before = self._step, self._before.get(setup)
        if step is not None and before is not None:
            before_N = [answer.ravel()[step.before_N] for answer in before]
            now_N = [answer.ravel()[step.now_N] for answer in answers]
            scores.consistency.count(before_N, now_N)
        self._before[setup] = list(answers)

    def figures(self, setup: Setup, interval: int) -> Figures:
        """Those at a key interval."""
        return self._scores_of(setup).figures(interval)

    def summary(self, setup: Setup) -> dict[str, object]:
        """Per-frame inference, and whether any label was counted."""
        scores = self._scores_of(setup)
        direct = scores.figures(1)
        return {
            'per_frame_miou': direct['miou'],
            'per_frame_iou_per_class': direct['iou_per_class'],
            'per_frame_consistency': direct['consistency'],
            'labelled': scores.is_labelled,
        }

    def _scores_of(self, setup: Setup) -> SegmentationScores:
        if setup not in self._scores:
            self._scores[setup] = SegmentationScores(self._num_offsets, self._class_names)
        return self._scores[setup]


def _has_labels(source: FrameSource, class_names: tuple[str, ...]) -> bool:
    """Whether its labels are of the bundle's classes; ConfigError where they are of others."""
    found = source.class_names
    if not found or found == class_names:
        return bool(found)
    missing = [name for name in class_names if name not in found]
    unknown = [name for name in found if name not in class_names]
    differing = [
        *([f'the data lack {", ".join(missing)}'] if missing else []),
        *([f'the bundle lacks {", ".join(unknown)}'] if unknown else []),
    ]
    raise ConfigError(
        f"{source.name}: its classes are not the bundle's ({'; '.join(differing) or 'their order differs'}); "
        f'evaluate a bundle trained on them, or ignore the labels (--no-labels) for agreement with per-frame '
        f'inference alone'
    )
