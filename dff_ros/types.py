# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Frozen records that pass between the rings. Suffixes: H, W image rows and columns; h, w feature cells."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ShapeError
from dff_ros.thumbnails import Thumbnail

FeatureT = TypeVar('FeatureT')
ContextT = TypeVar('ContextT')

UNLABELED = 255
"""Class id of a pixel without a class or a decision, left out of losses and metrics (the convention of
vision_msgs/LabelInfo consumers).
"""

MIN_SIDE = 16
"""Shortest image side in pixels that the networks take: one feature cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One camera image.

    `image_HW3` is uint8 RGB, C-contiguous. `stamp_ns` is the source's stamp (0: the source gives none).
    `encoding` is the one the source had; a change of it means another camera mode.
    Raises ShapeError for another shape, dtype or memory layout.
    """

    image_HW3: NDArray[np.uint8]
    stamp_ns: int
    frame_id: str = ''
    encoding: str = 'rgb8'
    camera: str = ''

    def __post_init__(self) -> None:
        image = self.image_HW3
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ShapeError(
                f'a frame takes a uint8 image of shape (height, width, 3), not {image.dtype} {image.shape}'
            )
        if min(image.shape[:2]) < MIN_SIDE:
            raise ShapeError(
                f'the image is {image.shape[1]}x{image.shape[0]} pixels; each side needs at least {MIN_SIDE}'
            )
        if not image.flags.c_contiguous:
            raise ShapeError('the image must be C-contiguous: pass np.ascontiguousarray(image)')

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image_HW3.shape[0], self.image_HW3.shape[1]


@dataclass(frozen=True, slots=True)
class KeyFeature(Generic[FeatureT, ContextT]):
    """What `Backend.extract` returns: the feature, and what `propagate` needs of the key image.

    Both are opaque to everyone but the backend that made them.
    """

    feature: FeatureT
    context: ContextT


@dataclass(frozen=True, slots=True)
class Propagation(Generic[FeatureT]):
    """What `Backend.propagate` returns.

    `validity_hw` is float32 in 0..1 per feature cell: how much of it was warped from inside the key frame.
    `motion_px` is the 95th percentile of the flow length in source-image pixels; `coverage` the mean
    validity. `residual` is the photometric error of the warp, mean |I_t - warp(I_k)| in grey levels (0..255)
    over the covered cells; `disagreement` the predicted share (0..1) of pixels whose label differs from
    per-frame inference, None where the bundle has no net for it; `disagreement_hw` is that of each cell, of
    which it is the mean. `flow_ms`, `warp_ms` and `correct_ms` split
    the time.
    """

    feature: FeatureT
    validity_hw: NDArray[np.float32]
    motion_px: float
    coverage: float
    residual: float = 0.0
    disagreement: float | None = None
    disagreement_hw: NDArray[np.float32] | None = None
    flow_ms: float = 0.0
    warp_ms: float = 0.0
    correct_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class KeyFrame(Generic[FeatureT, ContextT]):
    """A cached key frame: its feature, stamp, running number in the stream and thumbnail."""

    key: KeyFeature[FeatureT, ContextT]
    stamp_ns: int
    number: int
    thumbnail: Thumbnail


@dataclass(frozen=True, slots=True)
class Segmentation:
    """`label_map_HW`: uint8 class ids; `confidence_HW`: uint8, 255 for sure, None where it was not asked for.

    Of `Backend.predict`: any class, and 255 x its probability, 0 where the scores are not finite. Of a
    StepResult: docs/confidence.md; a pixel without an answer is 255 (UNLABELED) with confidence 0, and no
    other has either.
    """

    label_map_HW: NDArray[np.uint8]
    confidence_HW: NDArray[np.uint8] | None

    @property
    def known_confidence_HW(self) -> NDArray[np.uint8]:
        """The confidence; ValueError where there is none."""
        if self.confidence_HW is None:
            raise ValueError('the label map was made without its confidence')
        return self.confidence_HW


@dataclass(frozen=True, slots=True)
class Detections:
    """The N objects found in one image, best first.

    `boxes_xyxy` (N, 4) float32: edges in source-image pixels, x right, y down, pixel i spans [i, i + 1];
    clipped to the image. `class_ids_N` int64 index `ModelSpec.box_class_names`; `scores_N` float32, 0..1.
    Raises ShapeError for other shapes.
    """

    boxes_xyxy: NDArray[np.float32]
    class_ids_N: NDArray[np.int64]
    scores_N: NDArray[np.float32]

    def __post_init__(self) -> None:
        found = self.boxes_xyxy.shape, self.class_ids_N.shape, self.scores_N.shape
        if found != ((len(self.scores_N), 4), (len(self.scores_N),), (len(self.scores_N),)):
            raise ShapeError(
                f'detections take boxes (N, 4), class ids (N,) and scores (N,), not {found[0]}, {found[1]}, '
                f'{found[2]}'
            )

    def __len__(self) -> int:
        return len(self.scores_N)

    def chosen(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Detections:
        """Those of a mask or of row numbers, in their order."""
        return Detections(self.boxes_xyxy[chosen], self.class_ids_N[chosen], self.scores_N[chosen])

    @staticmethod
    def none() -> Detections:
        """Of an image without objects."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))


class Action(enum.Enum):
    """What a scheduler asks for. REFRESH may go on in the background, REFRESH_NOW must be waited for."""

    PROPAGATE = 'propagate'
    REFRESH = 'refresh'
    REFRESH_NOW = 'refresh_now'


@dataclass(frozen=True, slots=True)
class Decision:
    """A scheduler's answer and its named reason."""

    action: Action
    reason: str


class ResetCause(enum.Enum):
    """Why a stream dropped its key frame."""

    SIZE = 'size'
    ENCODING = 'encoding'
    FRAME_ID = 'frame_id'
    BACKWARD_STAMP = 'backward_stamp'
    GAP = 'gap'
    REQUESTED = 'requested'
    ERROR = 'error'


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Milliseconds spent on one frame; a stage that did not run is 0. `predict_ms` is the sum over tasks."""

    extract_ms: float = 0.0
    propagate_ms: float = 0.0
    flow_ms: float = 0.0
    warp_ms: float = 0.0
    correct_ms: float = 0.0
    predict_ms: float = 0.0
    predict_segmentation_ms: float = 0.0
    predict_detection_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """The answer to one frame. `age_frames` and `age_s` are 0 on a key frame.

    `is_key`: the frame is a key frame, answered from its own feature. `is_refreshed`: with it a new key frame
    came into use, its own or one that was computed in the background.

    `segmentation` and `detections` are None where the task was not due, is off, or is not in the bundle; an
    image without objects has Detections of length 0. `mean_confidence` is that of all pixels, those without
    an answer as 0, and `share_unknown` the share of these; 0..1, None without a segmentation, and the first
    also without its confidence.

    A frame for which no task was due, or none that anyone reads, is idle: nothing was computed, so
    `motion_px`, `coverage`, `residual` and `disagreement` are None; see Propagation. `disagreement_sum` is
    that of all frames since the key frame. `change` and `key_change` are those of the signal
    (scheduling.Signal), None without one and on idle frames. A skipped frame is idle too, though tasks were
    due: there was no time for it. `reason` is a scheduler's (scheduling.Reason), or one of the engine's own.
    """

    stamp_ns: int
    frame_id: str
    camera: str
    is_key: bool
    reason: str
    reset_cause: ResetCause | None
    age_frames: int
    age_s: float
    motion_px: float | None = None
    coverage: float | None = None
    residual: float | None = None
    disagreement: float | None = None
    disagreement_sum: float | None = None
    change: float | None = None
    key_change: float | None = None
    is_refreshed: bool = False
    is_skipped: bool = False
    segmentation: Segmentation | None = None
    mean_confidence: float | None = None
    share_unknown: float | None = None
    detections: Detections | None = None
    timings: Timings = field(default_factory=Timings)

    @property
    def is_idle(self) -> bool:
        """No task was run."""
        return self.segmentation is None and self.detections is None
