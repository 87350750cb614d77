# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes that another detector finds: a YOLOX of the 80 COCO classes, as an ONNX file with raw grid outputs.

Ge, Liu, Wang, Li, Sun, "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430. The network takes one image
(1, 3, h, w), BGR 0..255, shrunk or enlarged to fit and filled up with grey 114 at the right and below. It
gives (1, N, 85): for each cell of the grids of stride 8, 16 and 32, row by row, the distance of the centre
from the cell's corner and the logarithms of width and height, in cells; objectness; 80 class scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import boxes_of
from dff_ros.data.teacher_config import TeacherConfig
from dff_ros.data.video_set import Boxes
from dff_ros.errors import BackendUnavailableError, DataError

if TYPE_CHECKING:
    import onnxruntime

TEACHER_CLASSES = ('car', 'pedestrian')
"""What a teacher's boxes are called here."""

_PERSON, _BICYCLE, _CAR, _MOTORCYCLE, _BUS, _TRUCK = 0, 1, 2, 3, 5, 7
_CLASS_OF = {_CAR: 0, _BUS: 0, _TRUCK: 0, _PERSON: 1}
"""Class number of COCO -> that of TEACHER_CLASSES."""
_STRIDES = (8, 16, 32)
_NUM_CLASSES = 80
_BACKGROUND_GREY = 114
_MOST_LOG = 10.0
"""Wider boxes than e to this, in cells, are no less wrong."""
_RIDDEN_SHARE = 0.25
"""Who covers more of a bicycle's box than this may ride it."""
_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class Found:
    """Boxes (N, 4), edges in pixels of the image, their scores and their numbers of COCO's 80 classes."""

    boxes_xyxy: NDArray[np.float32]
    scores_N: NDArray[np.float32]
    coco_ids_N: NDArray[np.int64]

    def taken(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> Found:
        """Some of them."""
        return Found(self.boxes_xyxy[which], self.scores_N[which], self.coco_ids_N[which])


class Teacher:
    """A detector in ONNX Runtime. DataError where the file is no such network, BackendUnavailableError where
    ONNX Runtime is not installed.
    """

    def __init__(self, path: Path, config: TeacherConfig) -> None:
        config.check_together()
        self._path, self._config = path, config
        self._session = _open(path, config.threads)
        shape = self._session.get_inputs()[0].shape
        if len(shape) != 4 or shape[:2] != [1, 3] or not all(isinstance(side, int) for side in shape):
            raise DataError(f'{path} takes an image {shape}, not [1, 3, height, width] of fixed size')
        self._size: tuple[int, int] = (shape[2], shape[3])
        self._input = self._session.get_inputs()[0].name

    def boxes(self, image_HW3: NDArray[np.uint8]) -> Boxes:
        """The objects of an RGB image, with class ids of TEACHER_CLASSES; unsure ones are ignored."""
        return to_boxes(self.find(image_HW3), image_HW3.shape[:2], self._config)

    def find(self, image_HW3: NDArray[np.uint8]) -> Found:
        """All boxes of at least the lower threshold, overlapping ones of a class suppressed, best first."""
        blob, factors = letterbox(image_HW3, self._size)
        raw = self._session.run(None, {self._input: blob})[0]
        if raw.shape != (1, _num_cells(self._size), 5 + _NUM_CLASSES):
            raise DataError(
                f'{self._path} gives {raw.shape}, not (1, {_num_cells(self._size)}, {5 + _NUM_CLASSES}): '
                f'it is no YOLOX of the COCO classes with raw outputs'
            )
        found = decode(raw[0], self._size, self._config.unsure)
        scaled = np.asarray(found.boxes_xyxy / np.array([*factors, *factors]), np.float32)
        return suppressed(Found(scaled, found.scores_N, found.coco_ids_N), self._config.nms_iou)


def _open(path: Path, threads: int) -> onnxruntime.InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailableError(
            'a teacher runs in ONNX Runtime: pip install "dff_ros[onnxruntime]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _LOG_ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its exceptions have no common base that it exports
        raise DataError(f'{path} cannot be used as a teacher: {" ".join(str(error).split())}') from error


def letterbox(
    image_HW3: NDArray[np.uint8], size: tuple[int, int]
) -> tuple[NDArray[np.float32], tuple[float, float]]:
    """The image as the network takes it, and its (x, y) factors from pixels of the image to those of it."""
    height, width = image_HW3.shape[:2]
    factor = min(size[0] / height, size[1] / width)
    new_height, new_width = max(round(height * factor), 1), max(round(width * factor), 1)
    filled = np.full((*size, 3), _BACKGROUND_GREY, np.uint8)
    filled[:new_height, :new_width] = cv2.resize(image_HW3, (new_width, new_height))
    blob = np.ascontiguousarray(filled[..., ::-1].transpose(2, 0, 1)[None], np.float32)
    return blob, (new_width / width, new_height / height)


def _num_cells(size: tuple[int, int]) -> int:
    return sum((size[0] // stride) * (size[1] // stride) for stride in _STRIDES)


def decode(raw: NDArray[np.float32], size: tuple[int, int], least_score: float) -> Found:
    """The boxes, in pixels of the network's image of that size, of raw outputs (N, 85): each cell's best
    class, where its score, times the objectness, is at least that.
    """
    corners, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[0 : size[0] // stride, 0 : size[1] // stride]
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1).astype(np.float32))
        strides.append(np.full((rows.size, 1), stride, np.float32))
    stride_N1 = np.concatenate(strides)
    scores = raw[:, 4:5] * raw[:, 5:]
    ids = scores.argmax(axis=1)
    best = scores[np.arange(len(raw)), ids]
    kept = np.flatnonzero(best >= least_score)  # NaN is not
    middle = (raw[kept, :2] + np.concatenate(corners)[kept]) * stride_N1[kept]
    half = 0.5 * np.exp(np.minimum(raw[kept, 2:4], _MOST_LOG)) * stride_N1[kept]
    edges: NDArray[np.float32] = np.concatenate([middle - half, middle + half], axis=1)
    is_finite = np.asarray(np.isfinite(edges).all(axis=1), np.bool_)
    return Found(edges, best[kept], ids[kept].astype(np.int64)).taken(is_finite)


def suppressed(found: Found, iou: float) -> Found:
    """Best first, without boxes that overlap a better one of their class by more than `iou`."""
    kept: list[int] = []
    for class_id in np.unique(found.coco_ids_N):
        which = np.flatnonzero(found.coco_ids_N == class_id)
        x1, y1, x2, y2 = found.boxes_xyxy[which].T
        rects = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).astype(float).tolist()
        chosen = cv2.dnn.NMSBoxes(rects, found.scores_N[which].tolist(), 0.0, iou)
        kept += which[np.asarray(chosen, np.int64).ravel()].tolist()
    order = sorted(kept, key=lambda index: (-found.scores_N[index], index))
    return found.taken(np.array(order, np.int64))


def to_boxes(found: Found, size: tuple[int, ...], config: TeacherConfig) -> Boxes:
    """The boxes of TEACHER_CLASSES within an image (height, width); unsure ones are to be ignored, and so is
    who may ride a bicycle or motorcycle: no pedestrian.
    """
    table = np.full(_NUM_CLASSES, -1, np.int64)
    for coco_id, class_id in _CLASS_OF.items():
        table[coco_id] = class_id
    edges = np.clip(found.boxes_xyxy, 0, np.array([size[1], size[0], size[1], size[0]], np.float32))
    is_unsure = (found.scores_N < config.sure) | _is_rider(found)
    is_box = (table[found.coco_ids_N] >= 0) & (edges[:, 2:] > edges[:, :2]).all(axis=1)
    return boxes_of(edges[is_box], table[found.coco_ids_N][is_box], is_unsure[is_box])


def _is_rider(found: Found) -> NDArray[np.bool_]:
    """Which are persons that cover a fair share of something that is ridden."""
    ridden = found.boxes_xyxy[np.isin(found.coco_ids_N, (_BICYCLE, _MOTORCYCLE))]
    if not len(ridden):
        return np.zeros(len(found.scores_N), np.bool_)
    first = np.maximum(found.boxes_xyxy[:, None, :2], ridden[None, :, :2])
    last = np.minimum(found.boxes_xyxy[:, None, 2:], ridden[None, :, 2:])
    common = np.prod(np.maximum(last - first, 0), axis=2)
    share = common / np.prod(ridden[:, 2:] - ridden[:, :2], axis=1)
    is_rider: NDArray[np.bool_] = (found.coco_ids_N == _PERSON) & (share.max(axis=1) > _RIDDEN_SHARE)
    return is_rider
