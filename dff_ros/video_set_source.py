# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Data sets as frame sources, and a range of a source's frames."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_ros.data.layouts import named_root, open_videos, usual_split
from dff_ros.data.video_set import read_labels
from dff_ros.errors import ConfigError, DataError
from dff_ros.sources import FrameSource, SourceFrame

_NS_PER_S = 10**9
_PAUSE_NS = 60 * _NS_PER_S
_DEFAULT_FPS = 30.0


class VideoSetSource:
    """The sequences of one split of a data set, one after the other, with the labels of those frames that
    have them, and their boxes if `with_boxes` is true.

    Each further sequence begins a minute after the one before, so that stamps never go backward and a stream
    that plays them sees the pause. Raises DataError as `open_videos`, and for a split without a frame.
    """

    is_rendered = False

    def __init__(self, text: str, split: str | None = None, with_boxes: bool = False) -> None:
        self.split = split or usual_split(text)
        self._videos = open_videos(text, self.split)
        self.name = f'{named_root(text)[0]}:{self.split}'
        self.class_names = self._videos.class_names
        self.box_class_names = self._videos.box_class_names if with_boxes else ()
        sequences = self._videos.sequences
        self._where = [(number, index) for number, info in enumerate(sequences) for index in range(len(info))]
        if not self._where:
            raise DataError(f'{self.name} has no frames: "dff data check" says what it takes')
        self.num_frames: int | None = len(self._where)
        stamps_ns = sequences[0].stamps_ns
        period_ns = stamps_ns[1] - stamps_ns[0] if len(stamps_ns) > 1 else 0
        self.fps = round(_NS_PER_S / period_ns, 3) if period_ns > 0 else _DEFAULT_FPS
        height, width = self._videos.frame(0, 0).image_HW3.shape[:2]
        self.size = height, width

    def __iter__(self) -> Iterator[SourceFrame]:
        start_ns = 0
        for number, info in enumerate(self._videos.sequences):
            for index, stamp_ns in enumerate(info.stamps_ns):
                frame = self._videos.frame(number, index)
                is_labelled = index in info.labelled
                labels = read_labels(self._videos, number, index, frame) if is_labelled else None
                boxes = self._videos.boxes(number, index) if self.box_class_names else None
                name = Path(frame.name).stem
                stamp_ns += start_ns - info.stamps_ns[0]
                image = np.ascontiguousarray(frame.image_HW3)
                yield SourceFrame(image, stamp_ns, labels, name, info.name, boxes)
            start_ns = stamp_ns + _PAUSE_NS

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """The label map of frame `index` of the source; None where it has none."""
        return self._videos.labels(*self._where[index])


@dataclass(frozen=True, slots=True)
class FrameRange:
    """The frames `first` to `last` of a source, both included, counted from 1; ConfigError elsewhere."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise ConfigError(
                f'frames {self.first}-{self.last}: frames count from 1, and the first comes first'
            )

    def of(self, source: FrameSource) -> RangeSource:
        """These frames of a source; ConfigError where it is known to have fewer."""
        if source.num_frames is not None and source.num_frames < self.last:
            raise ConfigError(
                f'{source.name} has {source.num_frames} frames: there are no frames {self.first}-{self.last}'
            )
        return RangeSource(source, self)


class RangeSource:
    """Frames of another source; those before them are read and left out."""

    def __init__(self, source: FrameSource, frames: FrameRange) -> None:
        self._source, self._frames = source, frames
        self.name = f'{source.name}, frames {frames.first}-{frames.last}'
        self.fps, self.size, self.is_rendered = source.fps, source.size, source.is_rendered
        self.class_names, self.box_class_names = source.class_names, source.box_class_names
        self.num_frames: int | None = frames.last - frames.first + 1

    def __iter__(self) -> Iterator[SourceFrame]:
        return itertools.islice(self._source, self._frames.first - 1, self._frames.last)

    def labels(self, index: int) -> NDArray[np.uint8] | None:
        """Ground truth of frame `index` of the range, from 0."""
        return self._source.labels(self._frames.first - 1 + index)
