"""Video sets as one, with frames shrunk to what training needs and kept in memory; and parts of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_ros.data.video_set import Boxes, SequenceInfo, VideoFrame, VideoSet, read_labels

_MIB = 2**20

Kept = tuple[VideoFrame, NDArray[np.uint8] | None]


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
        frame, labels = kept
        size = frame.image_HW3.nbytes + (0 if labels is None else labels.nbytes)
        with self._lock:
            if key not in self._kept and size <= self._room:
                self._kept[key] = kept
                self._room -= size


class KeptVideos:
    """Several video sets as one. Frames larger than `area` (pixels) are shrunk to it, with their labels.

    Frames are averaged, labels sampled at the middle of each new pixel. Boxes and flow are left out. Frames
    must not be written to.
    """

    box_class_names: tuple[str, ...] = ()

    def __init__(self, sets: Sequence[VideoSet], area: int, memory: FrameMemory) -> None:
        named = [videos.class_names for videos in sets if videos.class_names]
        self.class_names = named[0] if named else ()
        self._where = [(videos, number) for videos in sets for number in range(len(videos.sequences))]
        self.sequences = tuple(videos.sequences[number] for videos, number in self._where)
        self._area = area
        self._memory = memory

    def frame(self, sequence: int, index: int) -> VideoFrame:
        """One frame; DataError where the file is missing or damaged, or its labels are of another size."""
        return self._read(sequence, index)[0]

    def labels(self, sequence: int, index: int) -> NDArray[np.uint8] | None:
        """Class ids (H, W), 255 unlabelled; None for a frame without a label map."""
        return self._read(sequence, index)[1]

    def boxes(self, sequence: int, index: int) -> Boxes | None:
        """None."""
        return None

    def _read(self, sequence: int, index: int) -> Kept:
        key = id(self), sequence, index
        kept = self._memory.get(key)
        if kept is None:
            kept = self._read_anew(sequence, index)
            self._memory.offer(key, kept)
        return kept

    def _read_anew(self, sequence: int, index: int) -> Kept:
        videos, number = self._where[sequence]
        frame, labels = videos.frame(number, index), None
        if index in videos.sequences[number].labelled:
            labels = read_labels(videos, number, index, frame)
        height, width = frame.image_HW3.shape[:2]
        factor = math.sqrt(self._area / (height * width))
        if factor >= 1:
            return frame, labels
        size = round(width * factor), round(height * factor)
        image = np.asarray(cv2.resize(frame.image_HW3, size, interpolation=cv2.INTER_AREA), np.uint8)
        if labels is not None:
            labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        return VideoFrame(frame.name, image, frame.stamp_ns), labels


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
    )


def hold_out_tail(videos: VideoSet, share: float) -> tuple[VideoPart, VideoPart]:
    """(Training, held-out) parts: of each sequence, that share of its frames at its end is held out."""
    kept, held_out = [], []
    for number, info in enumerate(videos.sequences):
        cut = len(info) - round(share * len(info))
        kept.append(Span(number, 0, cut))
        held_out.append(Span(number, cut, len(info)))
    return _part(videos, kept), _part(videos, held_out)


def hold_out_labelled(videos: VideoSet, share: float) -> tuple[VideoPart, VideoPart]:
    """(Training, held-out) parts: the last labelled frames of the set, that share of all, are held out.

    The sequence in which the cut falls is cut after the last labelled frame of training, so that no frame is
    in both.
    """
    num_left = round(share * sum(len(info.labelled) for info in videos.sequences))
    kept, held_out = [], []
    for number, info in reversed(list(enumerate(videos.sequences))):
        if num_left >= len(info.labelled):
            cut = 0 if info.labelled and num_left else len(info)
        else:
            cut = info.labelled[len(info.labelled) - num_left - 1] + 1 if num_left else len(info)
        num_left -= min(num_left, len(info.labelled))
        kept.append(Span(number, 0, cut))
        held_out.append(Span(number, cut, len(info)))
    return _part(videos, kept[::-1]), _part(videos, held_out[::-1])


def _part(videos: VideoSet, spans: Sequence[Span]) -> VideoPart:
    return VideoPart(videos, [span for span in spans if span.end > span.start])
