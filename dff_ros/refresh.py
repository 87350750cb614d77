# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Who computes a key frame, and when it is ready: at once, or in the background by a second backend."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Generic, Protocol

from dff_ros.backends.base import Backend, BackendInfo
from dff_ros.thumbnails import Thumbnail
from dff_ros.types import ContextT, FeatureT, Frame, KeyFeature, KeyFrame


class Refresher(Protocol[FeatureT, ContextT]):
    """Makes the key frames of one stream, at most one at a time. Use from the thread of the stream.

    A key frame comes into use only through `poll`, so nothing that was discarded ever does.
    """

    @property
    def is_busy(self) -> bool:
        """A key frame is in flight, or one that was discarded still computes: `submit` has to wait."""
        ...

    def submit(self, frame: Frame, number: int, thumbnail: Thumbnail) -> None:
        """Begin to make a frame a key frame; `number` is the one it has in its stream. RuntimeError while
        busy.
        """
        ...

    def poll(self) -> KeyFrame[FeatureT, ContextT] | None:
        """The key frame submitted, once, as soon as it is there. Raises what computing it raised."""
        ...

    def discard(self) -> None:
        """Forget what was submitted; `poll` will not return it."""
        ...


def make_key_frame(
    backend: Backend[FeatureT, ContextT], frame: Frame, number: int, thumbnail: Thumbnail
) -> KeyFrame[FeatureT, ContextT]:
    """The key frame that a frame makes; raises what the backend raises."""
    return KeyFrame(backend.extract(frame.image_HW3), frame.stamp_ns, number, thumbnail)


class InlineRefresher(Generic[FeatureT, ContextT]):
    """Computes in `submit`, by the backend of the stream: the frame waits for its own feature."""

    def __init__(self, backend: Backend[FeatureT, ContextT]) -> None:
        self._backend = backend
        self._ready: KeyFrame[FeatureT, ContextT] | None = None

    @property
    def is_busy(self) -> bool:
        """Never: it is done when `submit` returns."""
        return False

    def submit(self, frame: Frame, number: int, thumbnail: Thumbnail) -> None:
        """See Refresher; raises what the backend raises."""
        self._ready = make_key_frame(self._backend, frame, number, thumbnail)

    def poll(self) -> KeyFrame[FeatureT, ContextT] | None:
        """See Refresher."""
        ready, self._ready = self._ready, None
        return ready

    def discard(self) -> None:
        """See Refresher."""
        self._ready = None


class RefreshWorker(Generic[FeatureT, ContextT]):
    """One thread with a backend of its own, which makes the key frames of all streams, in the order asked.

    `open_backend` is called on that thread; what it raises is raised here. `executor` runs the work; None is
    one thread.
    """

    def __init__(
        self, open_backend: Callable[[], Backend[FeatureT, ContextT]], executor: Executor | None = None
    ) -> None:
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix='refresh')
        try:
            self._backend = self._executor.submit(open_backend).result()
        except BaseException:
            self._executor.shutdown()
            raise

    @property
    def info(self) -> BackendInfo:
        """What runs where."""
        return self._backend.info

    def refresher(self, backend: Backend[FeatureT, ContextT]) -> WorkerRefresher[FeatureT, ContextT]:
        """For a stream that propagates with `backend`, which must be one of the same bundle and settings."""
        return WorkerRefresher(self._executor, self._backend, backend)

    def warm_up(self, size: tuple[int, int]) -> None:
        """Warm up the backend, on its thread, for an image size."""
        self._executor.submit(self._backend.warm_up, size).result()

    def wait(self) -> None:
        """Until all key frames asked for are made."""
        self._executor.submit(lambda: None).result()

    def close(self) -> None:
        """Wait for the key frame being computed, leave the others, free the backend. Harmless twice."""
        self._executor.shutdown(cancel_futures=True)
        self._backend.close()


class WorkerRefresher(Generic[FeatureT, ContextT]):
    """Has the frame extracted by the backend of a RefreshWorker, while the stream goes on with `backend`."""

    def __init__(
        self,
        executor: Executor,
        extractor: Backend[FeatureT, ContextT],
        backend: Backend[FeatureT, ContextT],
    ) -> None:
        self._executor = executor
        self._extractor = extractor
        self._backend = backend
        self._job: Future[KeyFeature[FeatureT, ContextT]] | None = None
        self._submitted: tuple[Frame, int, Thumbnail] | None = None

    @property
    def is_busy(self) -> bool:
        """See Refresher."""
        return self._submitted is not None or (self._job is not None and not self._job.done())

    def submit(self, frame: Frame, number: int, thumbnail: Thumbnail) -> None:
        """See Refresher. The image is copied: its owner may write to it while the worker reads."""
        if self.is_busy:
            raise RuntimeError(f'frame {number} cannot become a key frame: another one is in flight')
        own = dataclasses.replace(frame, image_HW3=frame.image_HW3.copy())
        self._submitted = own, number, thumbnail
        self._job = self._executor.submit(self._extractor.extract, own.image_HW3)

    def poll(self) -> KeyFrame[FeatureT, ContextT] | None:
        """See Refresher."""
        job, submitted = self._job, self._submitted
        if job is None or not job.done():
            return None
        self._job = self._submitted = None
        if submitted is None:
            return None
        frame, number, thumbnail = submitted
        key = self._backend.adopt(frame.image_HW3, job.result())
        return KeyFrame(key, frame.stamp_ns, number, thumbnail)

    def discard(self) -> None:
        """See Refresher. One that computes already goes on, for nobody."""
        if self._job is not None:
            self._job.cancel()
        self._submitted = None
