"""Panels to a video on a thread of their own, so that drawing and encoding do not hold up who measures."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from dff_ros.draw import Caption, Panel
from dff_ros.model_spec import ModelSpec
from dff_ros.video import VideoWriter

_MAX_QUEUE_BYTES = 256 << 20
_MIN_CLASS_SHARE = 0.002
_WARM_UP_FRAMES = 5

Item = tuple[NDArray[np.uint8], NDArray[np.uint8], Caption, int]


class Recorder:
    """Writes image | overlay panels to a video; a context manager that finishes the file.

    At most 256 MB of frames wait; a frame beyond that is left out of the video and counted in `num_skipped`.
    `still` is the panel of a propagated frame that shows the most classes, None before the first.
    """

    def __init__(self, path: Path, fps: float, spec: ModelSpec, *, alpha: float, interval: int) -> None:
        self.num_skipped = 0
        self.still: NDArray[np.uint8] | None = None
        self._best_richness = (False, False, -1)
        self._spec = spec
        self._alpha = alpha
        self._interval = interval
        self._writer = VideoWriter(path, fps)
        self._panel: Panel | None = None
        self._failure: Exception | None = None
        self._is_cut = False
        self._queue: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='recorder', daemon=True)
        self._thread.start()

    def put(
        self, image_HW3: NDArray[np.uint8], label_map_HW: NDArray[np.uint8], caption: Caption, stamp_ns: int
    ) -> None:
        """Hand over a frame; never blocks. The arrays must not be changed afterwards."""
        if self._queue.qsize() * (image_HW3.nbytes + label_map_HW.nbytes) > _MAX_QUEUE_BYTES:
            self.num_skipped += 1
            return
        self._queue.put((image_HW3, label_map_HW, caption, stamp_ns))

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
        while (item := self._queue.get()) is not None:
            if self._failure is None and not self._is_cut:
                try:
                    self._write(*item)
                except Exception as error:  # raised again by check and close
                    self._failure = error

    def _write(
        self, image_HW3: NDArray[np.uint8], label_map_HW: NDArray[np.uint8], caption: Caption, stamp_ns: int
    ) -> None:
        if self._panel is None:
            colours_N3 = np.array(self._spec.class_colours, np.uint8)
            size = (image_HW3.shape[0], image_HW3.shape[1])
            self._panel = Panel(
                size, self._spec.class_names, colours_N3, alpha=self._alpha, interval=self._interval
            )
        picture = self._panel.draw(image_HW3, label_map_HW, caption)
        richness = self._richness(label_map_HW, caption)
        if richness > self._best_richness:
            self._best_richness, self.still = richness, picture
        self._writer.write(picture, stamp_ns)

    def _richness(self, label_map_HW: NDArray[np.uint8], caption: Caption) -> tuple[bool, bool, int]:
        """How well a frame would do as the still: past the first ones, propagated, many classes."""
        counts = np.bincount(label_map_HW.ravel()[::4], minlength=256)[: self._spec.num_classes]
        num_seen = int((counts * 4 > _MIN_CLASS_SHARE * label_map_HW.size).sum())
        return caption.number >= _WARM_UP_FRAMES, not caption.is_key, num_seen

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_cut = kind is not None and issubclass(kind, KeyboardInterrupt)  # who hurries gets no rest
        self.close()
