# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Torch against ONNX Runtime on the frames of a clip: what a bundle must pass before it gets its name, and
graphs in 8 bits before they become a part of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.backends.base import Backend, open_backend
from dff_ros.bundle import Bundle
from dff_ros.config import DffConfig, replace
from dff_ros.errors import DffError
from dff_ros.tasks import DETECTION, SEGMENTATION
from dff_ros.types import Detections

Image = NDArray[np.uint8]
_Pair = tuple[Backend[object, object], Backend[object, object]]

MIN_AGREEMENT = 0.999
"""Share of pixels of a clip that must get the same label from torch and ONNX Runtime."""
MAX_FEATURE_ERROR = 1e-3
"""Largest difference between their features, as a share of the largest feature value."""
MAX_DISAGREEMENT_ERROR = 1e-3
"""Largest difference between what their quality nets say of a cell, a probability."""
MIN_BOX_AGREEMENT = 0.99
"""Share of boxes of a clip that the other one must have too. Not all: where two of them overlap by just the
limit, a rounding error decides which one stays.
"""
MAX_EDGE_ERROR_PX = 0.5
MAX_SCORE_ERROR = 1e-3
"""Up to where edges, in pixels of the frame, and scores are those of the same box."""

MIN_INT8_AGREEMENT = 0.97
"""As MIN_AGREEMENT for graphs in 8 bits."""
MAX_INT8_FEATURE_ERROR = 0.25

_KEY_INTERVAL = 3
_SCORE_THRESHOLD, _NMS_IOU = 0.05, 0.5
"""Low and loose: many boxes to compare."""


@dataclass(frozen=True, slots=True)
class ClipComparison:
    """Torch against ONNX Runtime on one clip: `size` (height, width), share of equal labels, feature
    difference; `correction`: whether the correction branch ran. `box_agreement`: share of the `num_boxes`
    that both found which the other one has too. `disagreement_error`: difference of what the quality net
    says. What the bundle has no task or net for, or no box, is None.
    """

    size: tuple[int, int]
    num_frames: int
    agreement: float | None
    feature_error: float
    correction: bool = False
    num_boxes: int | None = None
    box_agreement: float | None = None
    disagreement_error: float | None = None

    def facts(self) -> dict[str, object]:
        """What there is of it, as JSON stores it."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def compare_backends(
    bundle: Bundle, frames: list[Image], num_threads: int = 0, *, precision: str = 'fp32'
) -> list[ClipComparison]:
    """Run the frames, at their size and at two thirds of it, through both backends: a key frame, then
    propagation, with the correction branch and without. `precision`: of ONNX Runtime; torch computes in fp32.
    """
    if not frames:
        raise DffError('there are no frames to compare torch and ONNX Runtime on')
    clips = (frames, [_other_size(frame) for frame in frames])
    comparisons = []
    for correction in (True, False) if bundle.spec.correction_channels else (False,):
        config = DffConfig(device='cpu', num_threads=num_threads, correction=correction)
        with ExitStack() as stack:
            torch_backend, onnx_backend = (
                stack.enter_context(closing(open_backend(bundle, replace(config, changes))))
                for changes in (
                    {'backend': 'torch', 'precision': 'fp32'},
                    {'backend': 'onnx', 'provider': 'cpu', 'precision': precision},
                )
            )
            pair = torch_backend, onnx_backend
            comparisons += [_compare_clip(pair, clip, bundle.spec.tasks, correction) for clip in clips]
    return comparisons


def check_comparisons(comparisons: Iterable[ClipComparison]) -> None:
    """DffError saying what differed if a clip misses one of the limits."""
    for item in comparisons:
        at = f'torch and ONNX Runtime differ on {item.num_frames} frames of {item.size[1]}x{item.size[0]}'
        at += ' with correction' if item.correction else ''
        if not item.feature_error <= MAX_FEATURE_ERROR:
            raise DffError(f'{at}: features by {item.feature_error:.2g}, allowed is {MAX_FEATURE_ERROR:g}')
        if item.agreement is not None and not item.agreement >= MIN_AGREEMENT:
            raise DffError(f'{at}: {item.agreement:.4%} of labels agree, {MIN_AGREEMENT:.1%} are needed')
        if item.disagreement_error is not None and not item.disagreement_error <= MAX_DISAGREEMENT_ERROR:
            raise DffError(
                f'{at}: predicted disagreement by {item.disagreement_error:.2g}, allowed is '
                f'{MAX_DISAGREEMENT_ERROR:g}'
            )
        if item.box_agreement is not None and not item.box_agreement >= MIN_BOX_AGREEMENT:
            raise DffError(
                f'{at}: {item.box_agreement:.2%} of {item.num_boxes} boxes agree, '
                f'{MIN_BOX_AGREEMENT:.0%} are needed'
            )


def check_int8(comparisons: Iterable[ClipComparison]) -> None:
    """DffError if graphs in 8 bits answer too differently on a clip. Boxes are counted, not judged: 8 bits
    move most of them by more than a rounding error does.
    """
    for item in comparisons:
        at = f'int8 and single precision differ on {item.num_frames} frames of {item.size[1]}x{item.size[0]}'
        remedy = 'calibrate on images that are more like these'
        if not item.feature_error <= MAX_INT8_FEATURE_ERROR:
            raise DffError(
                f'{at}: features by {item.feature_error:.2g}, allowed is {MAX_INT8_FEATURE_ERROR:g}: {remedy}'
            )
        if item.agreement is not None and not item.agreement >= MIN_INT8_AGREEMENT:
            raise DffError(
                f'{at}: {item.agreement:.4%} of labels agree, {MIN_INT8_AGREEMENT:.1%} are needed: {remedy}'
            )


def num_equal_boxes(found: Detections, others: Detections) -> int:
    """How many boxes there are among others too: of the same class, edges within MAX_EDGE_ERROR_PX, score
    within MAX_SCORE_ERROR.
    """
    edges = np.abs(found.boxes_xyxy[:, None] - others.boxes_xyxy[None]).max(-1)
    scores = np.abs(found.scores_N[:, None] - others.scores_N[None])
    is_same = (edges <= MAX_EDGE_ERROR_PX) & (scores <= MAX_SCORE_ERROR)
    return int((is_same & (found.class_ids_N[:, None] == others.class_ids_N[None])).any(1).sum())


def _compare_clip(pair: _Pair, clip: list[Image], tasks: Sequence[str], correction: bool) -> ClipComparison:
    size = (clip[0].shape[0], clip[0].shape[1])
    num_equal, feature_error = 0, 0.0
    num_boxes, num_equal_ones = 0, 0
    disagreement_errors: list[float] = []
    for made in zip(*(_answers(backend, clip) for backend in pair), strict=True):
        features = [feature for feature, _ in made]
        judged = [disagreement_hw for _, disagreement_hw in made if disagreement_hw is not None]
        feature_error = max(feature_error, _feature_error(*features))
        if judged:
            disagreement_errors.append(float(np.abs(judged[0] - judged[1]).max()))
        if SEGMENTATION in tasks:
            labels, others = (
                backend.predict(feature, size, size).label_map_HW
                for backend, feature in zip(pair, features, strict=True)
            )
            num_equal += int((labels == others).sum())
        if DETECTION in tasks:
            counts = _compare_boxes(pair, features, size)
            num_boxes, num_equal_ones = num_boxes + counts[0], num_equal_ones + counts[1]
    return ClipComparison(
        size,
        len(clip),
        num_equal / (len(clip) * size[0] * size[1]) if SEGMENTATION in tasks else None,
        feature_error,
        correction,
        num_boxes if DETECTION in tasks else None,
        num_equal_ones / num_boxes if num_boxes else None,
        max(disagreement_errors, default=None),
    )


def _feature_error(expected: object, found: object) -> float:
    first, second = (np.asarray(feature, np.float32) for feature in (expected, found))
    scale = float(np.abs(first).max()) or 1.0
    return float(np.abs(second - first).max()) / scale


def _compare_boxes(pair: _Pair, features: Sequence[object], size: tuple[int, int]) -> tuple[int, int]:
    """Number of boxes of both, and of those that the other one has too."""
    first, second = (
        backend.detect(feature, size, _NMS_IOU, _SCORE_THRESHOLD)
        for backend, feature in zip(pair, features, strict=True)
    )
    num_equal = 0
    for found, others in ((first, second), (second, first)):
        # One whose score is at the threshold may be below it for the other.
        is_clear = found.scores_N > _SCORE_THRESHOLD + MAX_SCORE_ERROR
        num_equal += int((~is_clear).sum()) + num_equal_boxes(found.chosen(is_clear), others)
    return len(first) + len(second), num_equal


def _answers(
    backend: Backend[object, object], clip: list[Image]
) -> Iterator[tuple[object, NDArray[np.float32] | None]]:
    """The feature of each frame, and what is predicted of the disagreement of a propagated one."""
    for index, image in enumerate(clip):
        if index % _KEY_INTERVAL == 0:
            key = backend.extract(image)
            yield key.feature, None
        else:
            propagation = backend.propagate(image, key)
            yield propagation.feature, propagation.disagreement_hw


def _other_size(image: Image) -> Image:
    height, width = (max(32, round(side * 2 / 3)) for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width + 1, height), interpolation=cv2.INTER_AREA), np.uint8)
