# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The objects that an evaluation looks for, and how fast they move."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_ros.errors import ShapeError

MOTIONS = ('slow', 'medium', 'fast')
"""Ranges of motion IoU as evaluations on ImageNet VID have them: above 0.9, from 0.7 to 0.9, below 0.7."""

_SLOW_IOU, _FAST_IOU = 0.9, 0.7
_REACH = 10
"""An object is compared with itself up to this many frames before and after."""


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of a frame: edges in pixels, class ids as the detections have them.

    A negative track id is none. An ignored box is a region in which detections of its class count neither
    way. ShapeError where the numbers of rows differ.
    """

    boxes_xyxy: NDArray[np.float32]
    class_ids_N: NDArray[np.int64]
    track_ids_N: NDArray[np.int64]
    is_ignored_N: NDArray[np.bool_]

    def __post_init__(self) -> None:
        columns = (self.boxes_xyxy, self.class_ids_N, self.track_ids_N, self.is_ignored_N)
        if len({len(column) for column in columns}) > 1:
            raise ShapeError(f'boxes, classes, tracks, ignored: {[len(column) for column in columns]} rows')


class _Place(NamedTuple):
    """Where a box of a track is."""

    frame: int
    row: int


class Truth:
    """The objects of all frames that are evaluated, by the number of the frame."""

    def __init__(self) -> None:
        self._objects: dict[int, Objects] = {}
        self._tracks: defaultdict[tuple[int, int, int], list[_Place]] = defaultdict(list)
        self._codes: dict[int, NDArray[np.int64]] | None = None

    def add(self, frame: int, sequence: int, objects: Objects) -> None:
        """The objects of a frame. Frames come in ascending order; tracks end with their sequence."""
        self._objects[frame] = objects
        self._codes = None
        names = zip(objects.class_ids_N.tolist(), objects.track_ids_N.tolist(), strict=True)
        for row, (class_id, track) in enumerate(names):
            if track >= 0:
                self._tracks[sequence, class_id, track].append(_Place(frame, row))

    def __getitem__(self, frame: int) -> Objects:
        """The objects of a frame; KeyError without any that was added."""
        return self._objects[frame]

    @property
    def num_objects(self) -> int:
        """Boxes that are not ignored."""
        return sum(int(np.count_nonzero(~objects.is_ignored_N)) for objects in self._objects.values())

    def motion_codes(self, frame: int) -> NDArray[np.int64]:
        """For each object of a frame 1 + its index in MOTIONS, 0 where nothing tells its motion: (N,)."""
        if self._codes is None:
            self._codes = self._all_codes()
        return self._codes[frame]

    def _all_codes(self) -> dict[int, NDArray[np.int64]]:
        codes = {frame: np.zeros(len(one.boxes_xyxy), np.int64) for frame, one in self._objects.items()}
        for track in self._tracks.values():
            boxes = np.stack([self._objects[place.frame].boxes_xyxy[place.row] for place in track])
            iou_L = motion_iou(np.array([place.frame for place in track]), boxes)
            for place, iou in zip(track, iou_L, strict=True):
                if not np.isnan(iou):
                    codes[place.frame][place.row] = 1 if iou > _SLOW_IOU else 2 if iou >= _FAST_IOU else 3
        return codes


def motion_iou(frames_L: NDArray[np.int64], boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean IoU of each box of one object with its boxes in the 10 frames before and after, (L,).

    `frames_L` ascends. NaN where none of those frames has the object.
    """
    total, count = np.zeros(len(frames_L)), np.zeros(len(frames_L))
    for shift in range(1, min(_REACH + 1, len(frames_L))):
        is_near = frames_L[shift:] - frames_L[:-shift] <= _REACH
        iou = np.where(is_near, _iou(boxes_xyxy[shift:], boxes_xyxy[:-shift]), 0.0)
        for part in (slice(shift, None), slice(None, -shift)):
            total[part] += iou
            count[part] += is_near
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _iou(boxes_xyxy: NDArray[np.float32], others_xyxy: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each box with the other in its row; 0 for two without area."""
    boxes, others = boxes_xyxy.astype(np.float64), others_xyxy.astype(np.float64)
    sides = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    shared = sides.clip(0).prod(1)
    areas = [(part[:, 2:] - part[:, :2]).clip(0).prod(1) for part in (boxes, others)]
    union = areas[0] + areas[1] - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0)
