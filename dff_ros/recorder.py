# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Panels to a video on a thread of their own, so that drawing and encoding do not hold up who measures."""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dff_ros.draw import Caption, Panel
from dff_ros.model_spec import ModelSpec
from dff_ros.overlay import Overlay
from dff_ros.types import Detections
from dff_ros.video import VideoWriter

_MAX_QUEUE_BYTES = 256 << 20
_MIN_CLASS_SHARE = 0.002
_WARM_UP_FRAMES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A frame for the video; `label_map_HW` and `detections` are None where the task did not run on it."""

    image_HW3: NDArray[np.uint8]
    label_map_HW: NDArray[np.uint8] | None
    detections: Detections | None
    caption: Caption
    stamp_ns: int


class Recorder:
    """Writes image | overlay panels to a video; a context manager that finishes the file.

    At most 256 MB of frames wait; a frame beyond that is left out of the video and counted in `num_skipped`.
    `still` is the panel of a propagated frame that shows the most classes and boxes, None before the first.
    """

    def __init__(
        self, path: Path, fps: float, spec: ModelSpec, *, alpha: float, interval: int | None
    ) -> None:
        self.num_skipped = 0
        self.still: NDArray[np.uint8] | None = None
        self._best_richness = (False, False, -1)
        self._num_classes = spec.num_classes
        self._overlay = Overlay(spec, alpha)
        self._interval = interval
        self._writer = VideoWriter(path, fps)
        self._panel: Panel | None = None
        self._failure: Exception | None = None
        self._is_cut = False
        self._queue: queue.SimpleQueue[Shot | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='recorder', daemon=True)
        self._thread.start()

    def put(self, shot: Shot) -> None:
        """Hand over a frame; never blocks. Its arrays must not be changed afterwards."""
        labels_bytes = 0 if shot.label_map_HW is None else shot.label_map_HW.nbytes
        if self._queue.qsize() * (shot.image_HW3.nbytes + labels_bytes) > _MAX_QUEUE_BYTES:
            self.num_skipped += 1
            return
        self._queue.put(shot)

    def check(self) -> None:
        """Raise what the thread failed with (disk full), if it did."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Write what waits and finish the file; raises DffError where it could not be written. Harmless
        twice.
        """
        self._queue.put(None)
        self._thread.join()
        self._writer.close()
        self.check()

    def _run(self) -> None:
        while (shot := self._queue.get()) is not None:
            if self._failure is None and not self._is_cut:
                try:
                    self._write(shot)
                except Exception as error:  # raised again by check and close
                    self._failure = error

    def _write(self, shot: Shot) -> None:
        if self._panel is None:
            size = (shot.image_HW3.shape[0], shot.image_HW3.shape[1])
            self._panel = Panel(size, self._overlay, interval=self._interval)
        picture = self._panel.draw(shot.image_HW3, shot.label_map_HW, shot.caption, shot.detections)
        richness = self._richness(shot)
        if richness > self._best_richness:
            self._best_richness, self.still = richness, picture
        self._writer.write(picture, shot.stamp_ns)

    def _richness(self, shot: Shot) -> tuple[bool, bool, int]:
        """How well a frame would do as the still: past the first ones, propagated, many classes and boxes."""
        num_seen = 0 if shot.detections is None else len(shot.detections)
        if shot.label_map_HW is not None:
            counts = np.bincount(shot.label_map_HW.ravel()[::4], minlength=256)[: self._num_classes]
            num_seen += int((counts * 4 > _MIN_CLASS_SHARE * shot.label_map_HW.size).sum())
        return shot.caption.number >= _WARM_UP_FRAMES, not shot.caption.is_key, num_seen

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_cut = kind is not None and issubclass(kind, KeyboardInterrupt)  # who hurries gets no rest
        self.close()
