# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Evaluation of boxes: average precision of the classes that bundle and data have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend
from dff_ros.bundle import Bundle
from dff_ros.data.boxes import renamed
from dff_ros.errors import ConfigError
from dff_ros.evaluation.detection import DetectionFigures, DetectionScores
from dff_ros.evaluation.truth import Objects, Truth
from dff_ros.methods import Setup
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.types import Detections

SCORE_THRESHOLD = 0.01
"""Detections from this score on are counted: average precision needs those far below the ones to act on."""


class DetectionTask:
    """Scores of boxes, suppressed at an overlap of `nms_iou`. True boxes are taken as the data have them,
    also beyond the edge of the image.

    ConfigError for a bundle without the head, a source without boxes, and no class in common.
    """

    name = 'detection'
    has_truth = True

    def __init__(self, bundle: Bundle, source: FrameSource, num_offsets: int, *, nms_iou: float) -> None:
        self._class_names = _common_classes(bundle, source)
        self._own_names, self._data_names = bundle.spec.box_class_names, source.box_class_names
        self.notes = _left_out(self._own_names, self._data_names)
        self._nms_iou = nms_iou
        self._num_offsets = num_offsets
        self._truth = Truth()
        self._scores: dict[Setup, DetectionScores] = {}
        self._frame = 0

    def predict(
        self, backend: Backend[object, object], feature: object, image_HW3: NDArray[np.uint8]
    ) -> Detections:
        """The boxes of an image, in its pixels."""
        size = image_HW3.shape[0], image_HW3.shape[1]
        return backend.detect(feature, size, self._nms_iou, SCORE_THRESHOLD)

    def is_labelled(self, item: SourceFrame) -> bool:
        """Whether anybody looked for objects in this frame."""
        return item.boxes is not None

    def begin(self, item: SourceFrame, frame: int, sequence: int) -> None:
        """The answers counted next are those to this frame, which has boxes."""
        if item.boxes is None:
            raise ConfigError(f'{item.name} has no boxes: only frames with boxes can be evaluated')
        self._frame = frame
        boxes = renamed(item.boxes, self._data_names, self._own_names)
        objects = Objects(boxes.boxes_xyxy, boxes.class_ids_N, boxes.track_ids_N, boxes.is_ignored_N)
        self._truth.add(frame, sequence, objects)

    def forget(self) -> None:
        """Frames are scored one by one."""

    def count(self, setup: Setup, answers: Sequence[Detections]) -> None:
        """Item d are the boxes of the feature propagated over d frames."""
        for offset, answer in enumerate(answers):
            self._scores_of(setup).update(offset, self._frame, answer)

    def figures(self, setup: Setup, interval: int) -> DetectionFigures:
        """Those at a key interval."""
        return self._scores_of(setup).figures(interval)

    def summary(self, setup: Setup) -> dict[str, object]:
        """Per-frame inference, and what was looked for."""
        direct = self._scores_of(setup).figures(1)
        return {
            'per_frame_ap50': direct['ap50'],
            'per_frame_ap': direct['ap'],
            'per_frame_ap50_per_class': direct['ap50_per_class'],
            'per_frame_ap_per_class': direct['ap_per_class'],
            'per_frame_ap50_by_motion': direct['ap50_by_motion'],
            'classes': list(self._class_names.values()),
            'num_objects': self._truth.num_objects,
            'labelled': self._truth.num_objects > 0,
        }

    def _scores_of(self, setup: Setup) -> DetectionScores:
        if setup not in self._scores:
            self._scores[setup] = DetectionScores(self._num_offsets, self._class_names, self._truth)
        return self._scores[setup]


def _common_classes(bundle: Bundle, source: FrameSource) -> dict[int, str]:
    """Their names by class id of the bundle."""
    own, found = bundle.spec.box_class_names, source.box_class_names
    if not own:
        raise ConfigError(
            f'bundle {bundle.name} has no detection head; it has {", ".join(bundle.spec.tasks)}'
        )
    if not found:
        raise ConfigError(f'{source.name} has no boxes: give data that has them, as mot:PATH')
    common = {number: name for number, name in enumerate(own) if name in found}
    if not common:
        raise ConfigError(
            f"{source.name}: none of its box classes ({', '.join(found)}) is one of the bundle's "
            f'({", ".join(own)}): evaluate a bundle trained on them'
        )
    return common


def _left_out(own: Sequence[str], found: Sequence[str]) -> list[str]:
    """What is not counted, in words."""
    sides = {
        'data have': [name for name in own if name not in found],
        'bundle has': [name for name in found if name not in own],
    }
    return [
        f'not counted, as the {side} no such class: {", ".join(names)}'
        for side, names in sides.items()
        if names
    ]
