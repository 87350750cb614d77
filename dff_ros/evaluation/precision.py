# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Average precision of boxes by pycocotools: COCO's, and by how fast the objects move."""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_ros.evaluation.offsets import known_mean
from dff_ros.evaluation.truth import MOTIONS, Truth
from dff_ros.types import Detections

MAX_DETECTIONS = 100
"""Best detections of a class in a frame that count (COCO's)."""

_AP50 = 0.5
_THRESHOLDS = tuple(round(_AP50 + 0.05 * step, 2) for step in range(10))

Annotation = dict[str, object]


@dataclass(frozen=True, slots=True)
class Precision:
    """Average precision in percent; NaN for what the truth has no object of.

    `ap50_K` and `ap_K`: of each class, at an IoU of 0.5 and averaged over 0.50, 0.55 .. 0.95.
    `ap50_by_motion`: AP50 of the objects of each of MOTIONS, mean over the classes.
    """

    ap50_K: tuple[float, ...]
    ap_K: tuple[float, ...]
    ap50_by_motion: tuple[float, ...]

    @property
    def ap50(self) -> float:
        """Mean over the classes of the truth."""
        return known_mean(self.ap50_K)

    @property
    def ap(self) -> float:
        """Mean over the classes of the truth."""
        return known_mean(self.ap_K)


def average_precision(truth: Truth, found: Mapping[int, Detections], class_ids: Sequence[int]) -> Precision:
    """Of the detections of the classes `class_ids` in the frames `found`, each of which needs its truth.

    101 recalls, at most MAX_DETECTIONS. A detection counts neither way where an ignored box of its class
    covers enough of it: the overlap with such a box is the part of the *detection* that it holds. By motion,
    objects of other speeds count neither way; false detections count in each. `class_ids` ascend. KeyError
    without the truth of a frame.
    """
    objects = [annotation for frame in found for annotation in _objects(frame, truth)]
    answers = [annotation for frame, one in found.items() for annotation in _answers(frame, one)]
    whole = (0, len(MOTIONS))
    every_TKA = _evaluated(list(found), objects, answers, class_ids, _THRESHOLDS, [whole])
    if all(annotation['area'] == 0 for annotation in objects):
        by_motion = [math.nan] * len(MOTIONS)
    else:
        codes = [(code, code) for code in range(1, len(MOTIONS) + 1)]
        moving_TKA = _evaluated(list(found), objects, answers, class_ids, (_AP50,), codes)
        by_motion = [known_mean(column.tolist()) for column in moving_TKA[0].T]
    return Precision(
        tuple(every_TKA[0, :, 0].tolist()), tuple(every_TKA[..., 0].mean(0).tolist()), tuple(by_motion)
    )


def _objects(frame: int, truth: Truth) -> list[Annotation]:
    # COCO sorts objects into ranges of their `area`, whatever that measures: here it is the motion's code.
    objects = truth[frame]
    columns = (objects.boxes_xyxy, objects.class_ids_N, objects.is_ignored_N, truth.motion_codes(frame))
    return [
        {**_annotation(frame, int(class_id), box), 'area': int(code), 'iscrowd': int(is_ignored)}
        for box, class_id, is_ignored, code in zip(*columns, strict=True)
    ]


def _answers(frame: int, found: Detections) -> list[Annotation]:
    # No range of areas leaves NaN out: a false detection has no motion and counts in each of them.
    columns = (found.boxes_xyxy, found.class_ids_N, found.scores_N)
    return [
        {**_annotation(frame, int(class_id), box), 'area': math.nan, 'score': float(score)}
        for box, class_id, score in zip(*columns, strict=True)
    ]


def _annotation(frame: int, class_id: int, box_xyxy: NDArray[np.float32]) -> Annotation:
    left, top, right, bottom = map(float, box_xyxy)
    return {'image_id': frame, 'category_id': class_id, 'bbox': [left, top, right - left, bottom - top]}


def _evaluated(
    frames: list[int],
    objects: list[Annotation],
    answers: list[Annotation],
    class_ids: Sequence[int],
    thresholds: Sequence[float],
    ranges: Sequence[tuple[int, int]],
) -> NDArray[np.float64]:
    """Average precision in percent by threshold, class and range of `area`; NaN without an object."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # it tells of its progress
        sides = []
        for annotations in (objects, answers):
            side = COCO()
            side.dataset = {
                'images': [{'id': frame} for frame in frames],
                'categories': [{'id': class_id} for class_id in class_ids],
                # 0 would mean no match
                'annotations': [
                    {**annotation, 'id': number}
                    for number, annotation in zip(itertools.count(1), annotations)
                ],
            }
            side.createIndex()
            sides.append(side)
        evaluation = COCOeval(*sides, iouType='bbox')
        parameters = evaluation.params
        parameters.imgIds, parameters.catIds = frames, list(class_ids)
        parameters.iouThrs, parameters.maxDets = np.array(thresholds), [MAX_DETECTIONS]
        parameters.areaRng = [list(limits) for limits in ranges]
        evaluation.evaluate()
        evaluation.accumulate()
    precision_TRKAM = np.asarray(evaluation.eval['precision'], np.float64)
    precision_TKA = precision_TRKAM[..., 0].mean(1)
    return np.where(precision_TKA < 0, np.nan, 100 * precision_TKA)
