# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The heads of the tasks that are due on a frame, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass

from dff_ros.backends.base import Backend
from dff_ros.backends.finishing import Finishing
from dff_ros.confidence import ConfidenceRule, FinalAnswer, summary
from dff_ros.config import SegmentationConfig
from dff_ros.tasks import DETECTION, SEGMENTATION, TaskPlan
from dff_ros.timing import ms_since
from dff_ros.types import ContextT, Detections, FeatureT, Propagation, Segmentation


@dataclass(slots=True)
class HeadAnswers:
    """What the heads answered to one feature; None and 0 ms of a task that did not run.

    `segmentation` is final; `mean_confidence` and `share_unknown` are those of StepResult.
    """

    segmentation: Segmentation | None = None
    mean_confidence: float | None = None
    share_unknown: float | None = None
    detections: Detections | None = None
    segmentation_ms: float = 0.0
    detection_ms: float = 0.0


def run_heads(
    backend: Backend[FeatureT, ContextT],
    propagation: Propagation[FeatureT],
    age_s: float,
    size: tuple[int, int],
    plan: TaskPlan,
    due: Container[str],
    rule: ConfidenceRule,
) -> HeadAnswers:
    """Run the heads of the tasks that are due on the feature of a frame of `size`, (height, width), which was
    propagated from a key frame `age_s` before it.
    """
    feature = propagation.feature
    answers = HeadAnswers()
    if SEGMENTATION in due:
        start_ns = time.perf_counter_ns()
        final = _segment(backend, propagation, age_s, size, plan.segmentation, rule)
        answers.segmentation = final.segmentation
        answers.mean_confidence, answers.share_unknown = final.mean_confidence, final.share_unknown
        answers.segmentation_ms = ms_since(start_ns)
    if DETECTION in due:
        start_ns = time.perf_counter_ns()
        wanted = plan.detection
        found = backend.detect(feature, size, wanted.nms_iou, wanted.score_threshold)
        answers.detections = plan.select(found)
        answers.detection_ms = ms_since(start_ns)
    return answers


def _segment(
    backend: Backend[FeatureT, ContextT],
    propagation: Propagation[FeatureT],
    age_s: float,
    size: tuple[int, int],
    wanted: SegmentationConfig,
    rule: ConfidenceRule,
) -> FinalAnswer:
    output_size = rule.output_size(wanted, size)
    if isinstance(backend, Finishing):
        return backend.answer(
            propagation.feature, size, output_size, rule.numbers(propagation, age_s, wanted)
        )
    found = backend.predict(propagation.feature, size, output_size)
    segmentation = rule.apply(found, propagation, age_s, size, wanted)
    return FinalAnswer(segmentation, *summary(segmentation))
