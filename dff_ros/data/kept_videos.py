# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Video sets as one, with frames shrunk to what training needs and kept in memory; and parts of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from threading import Lock
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.boxes import renamed, scaled
from dff_ros.data.video_set import Boxes, SequenceInfo, VideoFrame, VideoSet, read_labels

_MIB = 2**20


class Kept(NamedTuple):
    """A frame and what is known of it."""

    frame: VideoFrame
    labels: NDArray[np.uint8] | None = None
    boxes: Boxes | None = None


class FrameMemory:
    """Frames and label maps up to a total size; what came first stays, so that each epoch finds it again."""

    def __init__(self, limit_mib: float) -> None:
        self._room = int(limit_mib * _MIB)
        self._kept: dict[tuple[int, int, int], Kept] = {}
        self._lock = Lock()

    def get(self, key: tuple[int, int, int]) -> Kept | None:
        """What was kept under the key."""
        return self._kept.get(key)

    def offer(self, key: tuple[int, int, int], kept: Kept) -> None:
        """Keep it, if there is room."""
        size = kept.frame.image_HW3.nbytes + (0 if kept.labels is None else kept.labels.nbytes)
        with self._lock:
            if key not in self._kept and size <= self._room:
                self._kept[key] = kept
                self._room -= size


class KeptVideos:
    """Several video sets as one. Frames larger than `area` (pixels) are shrunk to it, with labels and boxes.

    Frames are averaged, labels sampled at the middle of each new pixel. Boxes are those of the classes
    `box_class_names`, whose order class ids then follow; flow is left out. Frames must not be written to.
    `sets` tells the numbers of the sequences of each set.
    """

    def __init__(
        self,
        sets: Sequence[VideoSet],
        area: int,
        memory: FrameMemory,
        box_class_names: tuple[str, ...] = (),
    ) -> None:
        self.box_class_names = box_class_names
        named = [videos.class_names for videos in sets if videos.class_names]
        self.class_names = named[0] if named else ()
        self._where = [(videos, number) for videos in sets for number in range(len(videos.sequences))]
        self.sequences = tuple(
            _with_boxes_of(videos.sequences[number], box_class_names) for videos, number in self._where
        )
        ends = list(accumulate((len(videos.sequences) for videos in sets), initial=0))
        self.sets = [range(start, end) for start, end in pairwise(ends)]
        self._area = area
        self._memory = memory

    def frame(self, sequence: int, index: int) -> VideoFrame:
        """One frame; DataError where the file is missing or damaged, or its labels are of another size."""
        return self._read(sequence, index).frame

    def labels(self, sequence: int, index: int) -> NDArray[np.uint8] | None:
        """Class ids (H, W), 255 unlabelled; None for a frame without a label map."""
        return self._read(sequence, index).labels

    def boxes(self, sequence: int, index: int) -> Boxes | None:
        """The objects of a frame; None where nobody looked for any of these classes."""
        return self._read(sequence, index).boxes

    def _read(self, sequence: int, index: int) -> Kept:
        key = id(self), sequence, index
        kept = self._memory.get(key)
        if kept is None:
            kept = self._read_anew(sequence, index)
            self._memory.offer(key, kept)
        return kept

    def _read_anew(self, sequence: int, index: int) -> Kept:
        videos, number = self._where[sequence]
        frame, info = videos.frame(number, index), self.sequences[sequence]
        labels = read_labels(videos, number, index, frame) if index in info.labelled else None
        boxes = videos.boxes(number, index) if index in info.boxed else None
        if boxes is not None:
            boxes = renamed(boxes, videos.box_class_names, self.box_class_names)
        height, width = frame.image_HW3.shape[:2]
        factor = math.sqrt(self._area / (height * width))
        if factor >= 1:
            return Kept(frame, labels, boxes)
        size = round(width * factor), round(height * factor)
        image = np.asarray(cv2.resize(frame.image_HW3, size, interpolation=cv2.INTER_AREA), np.uint8)
        if labels is not None:
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        if boxes is not None:
            boxes = scaled(boxes, size[0] / width, size[1] / height)
        return Kept(VideoFrame(frame.name, image, frame.stamp_ns), labels, boxes)


def _with_boxes_of(info: SequenceInfo, names: tuple[str, ...]) -> SequenceInfo:
    known = tuple(name for name in info.box_classes if name in names)
    return replace(info, boxed=info.boxed if known else (), box_classes=known)


@dataclass(frozen=True, slots=True)
class Span:
    """Frames `start` .. `end` - 1 of a sequence."""

    sequence: int
    start: int
    end: int


class VideoPart:
    """Some spans of a video set, each a sequence."""

    def __init__(self, videos: VideoSet, spans: Sequence[Span]) -> None:
        self._videos, self._spans = videos, tuple(spans)
        self.class_names, self.box_class_names = videos.class_names, videos.box_class_names
        self.sequences = tuple(_cut(videos.sequences[span.sequence], span) for span in self._spans)

    def frame(self, sequence: int, index: int) -> VideoFrame:
        """One frame, as the whole set gives it."""
        return self._videos.frame(*self._at(sequence, index))

    def labels(self, sequence: int, index: int) -> NDArray[np.uint8] | None:
        """Its label map."""
        return self._videos.labels(*self._at(sequence, index))

    def boxes(self, sequence: int, index: int) -> Boxes | None:
        """Its boxes."""
        return self._videos.boxes(*self._at(sequence, index))

    def _at(self, sequence: int, index: int) -> tuple[int, int]:
        span = self._spans[sequence]
        if not 0 <= index < span.end - span.start:
            raise IndexError(f'frame {index} of {span.end - span.start}')
        return span.sequence, span.start + index


def _cut(info: SequenceInfo, span: Span) -> SequenceInfo:
    return SequenceInfo(
        f'{info.name}[{span.start}:{span.end}]',
        info.stamps_ns[span.start : span.end],
        tuple(index - span.start for index in info.labelled if span.start <= index < span.end),
        tuple(index - span.start for index in info.boxed if span.start <= index < span.end),
        info.box_classes,
    )


def whole_sequences(videos: VideoSet, which: Sequence[int]) -> VideoPart:
    """The sequences of those numbers."""
    return VideoPart(videos, [Span(number, 0, len(videos.sequences[number])) for number in which])


def hold_out_tail(videos: VideoSet, share: float) -> tuple[VideoPart, VideoPart]:
    """(Training, held-out) parts: of each sequence, that share of its frames at its end is held out."""
    kept, held_out = [], []
    for number, info in enumerate(videos.sequences):
        cut = len(info) - round(share * len(info))
        kept.append(Span(number, 0, cut))
        held_out.append(Span(number, cut, len(info)))
    return _part(videos, kept), _part(videos, held_out)


def hold_out_labelled(
    videos: VideoSet, share: float, sets: Sequence[range] | None = None
) -> tuple[VideoPart, VideoPart]:
    """(Training, held-out) parts: the last frames with labels or boxes, that share of them, are held out of
    each of the `sets` (numbers of sequences; by default all are one set).

    The sequence in which the cut falls is cut after the last such frame of training, so that no frame is in
    both.
    """
    infos = videos.sequences
    cuts = [cut for which in sets or [range(len(infos))] for cut in _cuts([infos[n] for n in which], share)]
    kept = [Span(number, 0, cut) for number, cut in enumerate(cuts)]
    held_out = [
        Span(number, cut, len(info)) for number, (cut, info) in enumerate(zip(cuts, infos, strict=True))
    ]
    return _part(videos, kept), _part(videos, held_out)


def _cuts(infos: Sequence[SequenceInfo], share: float) -> list[int]:
    """How many frames of each sequence are trained on."""
    num_left = round(share * sum(len(info.annotated) for info in infos))
    cuts = []
    for info in reversed(infos):
        known = info.annotated
        if num_left >= len(known):
            cuts.append(0 if known and num_left else len(info))
        else:
            cuts.append(known[len(known) - num_left - 1] + 1 if num_left else len(info))
        num_left -= min(num_left, len(known))
    return cuts[::-1]


def _part(videos: VideoSet, spans: Sequence[Span]) -> VideoPart:
    return VideoPart(videos, [span for span in spans if span.end > span.start])
