# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The simulated street as a video set: made when asked for, with exact labels, boxes and flow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import boxes_of, renamed
from dff_ros.data.classes import CAMVID_CLASSES, OBJECT_CLASSES
from dff_ros.data.street import Street
from dff_ros.data.street.simulation import Box
from dff_ros.data.street_config import StreetVideosConfig
from dff_ros.data.video_set import Boxes, SequenceInfo, VideoFrame

_KEPT_STREETS = 8


class StreetVideos:
    """A FlowVideoSet of made-up streets; a frame depends on the config and its number only.

    The 8 streets used last are kept: up to 0.2 GB each at 480x360. A frame of another street takes some ten
    times longer, so training on many streets should render them first.
    """

    class_names = CAMVID_CLASSES
    box_class_names = OBJECT_CLASSES

    def __init__(self, config: StreetVideosConfig) -> None:
        self._config = config
        stamps_ns = tuple(round(index * 1e9 / config.fps) for index in range(config.frames))
        labelled = tuple(range(0, config.frames, config.every))
        self.sequences = tuple(
            SequenceInfo(f'street_{config.seed + number}', stamps_ns, labelled, labelled, OBJECT_CLASSES)
            for number in range(config.sequences)
        )
        self._lock = Lock()
        self._street = lru_cache(_KEPT_STREETS)(self._make)

    def frame(self, sequence: int, index: int) -> VideoFrame:
        """One frame."""
        with self._lock:  # a street keeps views it has drawn, and may be used by one thread at a time
            made = self._street(sequence).frame(self._checked(index))
        return VideoFrame(f'{self.sequences[sequence].name}:{index}', made.image_HW3, made.stamp_ns)

    def labels(self, sequence: int, index: int) -> NDArray[np.uint8] | None:
        """Exact class ids of each frame that counts as labelled."""
        if self._checked(index) % self._config.every:
            return None
        with self._lock:
            labels: NDArray[np.uint8] = self._street(sequence).frame(index).labels_HW
        return labels

    def boxes(self, sequence: int, index: int) -> Boxes:
        """The visible extent of every vehicle and person."""
        with self._lock:
            return street_boxes(self._street(sequence).frame(self._checked(index)).boxes)

    def flow(self, sequence: int, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Exact backward flow (2, H, W) and where (H, W) its target is in the key frame and not hidden."""
        with self._lock:
            flow, is_visible = self._street(sequence).flow(self._checked(current), self._checked(key))
        return np.asarray(flow, np.float32), is_visible

    def _checked(self, index: int) -> int:
        if not 0 <= index < self._config.frames:
            raise IndexError(f'frame {index} of {self._config.frames}')
        return index

    def _make(self, sequence: int) -> Street:
        config = self._config
        return Street(config.seed + sequence, (config.height, config.width), config.fps)


def street_boxes(boxes: Sequence[Box]) -> Boxes:
    """The street's boxes of the `OBJECT_CLASSES`."""
    found = boxes_of(
        [box.xyxy for box in boxes],
        [box.class_id for box in boxes],
        track_ids_N=[box.id for box in boxes],
        visibility_N=[box.visibility for box in boxes],
    )
    return renamed(found, CAMVID_CLASSES, OBJECT_CLASSES)
