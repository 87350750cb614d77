# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What every video data set gives: sequences of frames with stamps, some with labels, boxes or flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.samples import Sample
from dff_ros.errors import DataError


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """`image_HW3`: uint8 RGB; `stamp_ns` counts within the sequence."""

    name: str
    image_HW3: NDArray[np.uint8]
    stamp_ns: int


@dataclass(frozen=True, slots=True)
class Boxes:
    """The N boxes of a frame, edges in pixels; one that is ignored is neither an object nor background."""

    boxes_xyxy: NDArray[np.float32]
    class_ids_N: NDArray[np.int64]
    track_ids_N: NDArray[np.int64]
    visibility_N: NDArray[np.float32]
    is_ignored_N: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """An uninterrupted stretch of video: ascending stamps, and the numbers of the frames that have labels.

    `boxed` are the numbers of those in which somebody looked for objects, of the classes `box_classes`.
    """

    name: str
    stamps_ns: tuple[int, ...]
    labelled: tuple[int, ...]
    boxed: tuple[int, ...] = ()
    box_classes: tuple[str, ...] = ()

    @property
    def annotated(self) -> tuple[int, ...]:
        """The numbers of the frames with labels or boxes, ascending."""
        return tuple(sorted({*self.labelled, *self.boxed}))

    def __len__(self) -> int:
        return len(self.stamps_ns)


class VideoSet(Protocol):
    """Dense video with sparse labels; read from several threads at once.

    `class_names` says what label ids mean, `box_class_names` what those of boxes mean (empty: none).
    Frames of different sequences, even neighbouring ones, never belong together.
    """

    class_names: tuple[str, ...]
    box_class_names: tuple[str, ...]

    @property
    def sequences(self) -> Sequence[SequenceInfo]:
        """The uninterrupted stretches of video."""
        ...

    def frame(self, sequence: int, index: int) -> VideoFrame:
        """Frame `index` of a sequence, read anew; DataError where the file is missing or damaged."""
        ...

    def labels(self, sequence: int, index: int) -> NDArray[np.uint8] | None:
        """Class ids (H, W), 255 unlabelled; None for a frame without a label map."""
        ...

    def boxes(self, sequence: int, index: int) -> Boxes | None:
        """The objects of a frame; None where nobody looked for any, no rows where there are none."""
        ...


@runtime_checkable
class FlowVideoSet(VideoSet, Protocol):
    """A video set that knows the exact motion."""

    def flow(self, sequence: int, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Backward flow (2, H, W), x then y, in pixels, and where (H, W) the pixel is seen in both frames."""
        ...


class LabelledFrames:
    """The labelled frames of a video set as single samples, for per-frame training."""

    def __init__(self, videos: VideoSet) -> None:
        self._videos = videos
        self._where = [
            (number, index) for number, info in enumerate(videos.sequences) for index in info.labelled
        ]

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Sample:
        sequence, number = self._where[index]
        frame = self._videos.frame(sequence, number)
        labels = read_labels(self._videos, sequence, number, frame)
        return Sample(frame.name, frame.image_HW3, labels, frame.stamp_ns)


def read_labels(videos: VideoSet, sequence: int, index: int, frame: VideoFrame) -> NDArray[np.uint8]:
    """The label map of a labelled frame; DataError where there is none, or one of another size."""
    labels = videos.labels(sequence, index)
    if labels is None:
        raise DataError(f'{frame.name} has no labels')
    if labels.shape != frame.image_HW3.shape[:2]:
        raise DataError(
            f'the labels of {frame.name} are {labels.shape[1]}x{labels.shape[0]} pixels, '
            f'the frame {frame.image_HW3.shape[1]}x{frame.image_HW3.shape[0]}: they must be equal'
        )
    return labels
