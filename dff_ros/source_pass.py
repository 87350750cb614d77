# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""One pass over the frames of a source, in sequences as a stream would have them: what evaluations share."""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Iterator

from dff_ros.backends.base import BackendInfo, available_cores
from dff_ros.cache import KeyFrameCache
from dff_ros.closing import Closing
from dff_ros.config import DffConfig
from dff_ros.errors import ConfigError
from dff_ros.sources import FrameSource, SourceFrame
from dff_ros.types import Frame


class SourcePass(Closing):
    """Takes the frames one after the other. A frame that cannot follow the one before it (another sequence,
    `keyframe.max_gap_s`, size, stamp) begins a new sequence, as it resets a stream.

    `num_frames` of them, None: all. Raises ConfigError where that has no end.
    """

    def __init__(self, config: DffConfig, source: FrameSource, num_frames: int | None) -> None:
        self.num_frames = _length(source, num_frames)
        self._config, self._source = config, source
        self._admission: KeyFrameCache[object, object] = KeyFrameCache()
        self._num_done = 0
        self._wall_s = 0.0
        self._is_complete = False

    def frames(self) -> Iterator[int]:
        """Take one frame after the other; yields how many are done."""
        start_s = time.perf_counter() - self._wall_s
        for item in itertools.islice(self._source, self.num_frames):
            if self._is_first_of_sequence(item):
                self._begin_sequence()
            self._take(item)
            self._num_done += 1
            self._wall_s = time.perf_counter() - start_s
            yield self._num_done
        self._is_complete = True

    def _is_first_of_sequence(self, item: SourceFrame) -> bool:
        frame = Frame(image_HW3=item.image_HW3, stamp_ns=item.stamp_ns, frame_id=item.sequence)
        cause = self._admission.admit(frame, self._config.keyframe.max_gap_s)
        return cause is not None or self._num_done == 0

    @abstractmethod
    def _begin_sequence(self) -> None:
        """Forget the frames so far."""

    @abstractmethod
    def _take(self, item: SourceFrame) -> None:
        """Measure a frame."""

    def _facts(self, info: BackendInfo) -> dict[str, object]:
        """What was taken, and what it ran on. `complete`: the source was read to its end (or as far as was
        asked).
        """
        return {
            'complete': self._is_complete,
            'size': list(self._source.size),
            'backend': info.name,
            'device': info.device,
            'provider': info.provider,
            'precision': info.precision,
            'runtime': info.runtime,
            'num_threads': info.num_threads,
            'cores': available_cores(),
            'wall_s': round(self._wall_s, 1),
        }


def _length(source: FrameSource, num_frames: int | None) -> int | None:
    """Frames to take, None: all. A source made of an endless one has no end either."""
    if num_frames is None and source.num_frames is None and source.is_rendered:
        raise ConfigError(f'{source.name} has no end: say how many frames to take (--num-frames N)')
    known = [number for number in (source.num_frames, num_frames) if number is not None]
    return min(known, default=None)
