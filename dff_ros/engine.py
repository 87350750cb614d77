# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Deep Feature Flow without tensors: one backend, and a stream for each camera."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Generic

from dff_ros.backends.base import Backend
from dff_ros.confidence import ConfidenceRule
from dff_ros.config import KeyframeConfig
from dff_ros.phases import Phase
from dff_ros.refresh import RefreshWorker
from dff_ros.stream import Stream
from dff_ros.tasks import TaskPlan
from dff_ros.types import ContextT, FeatureT, Frame, ResetCause, StepResult


class Engine(Generic[FeatureT, ContextT]):
    """One backend shared by the streams of all cameras. Without a plan every frame is segmented.

    `worker` makes their key frames in the background; None: the backend makes them while the frame waits. The
    engine owns both and closes them. `budget_ms`: see DeadlineController. `rule`: what the confidence is made
    of; None takes the probability of the head and cells of 16 pixels.
    """

    def __init__(
        self,
        backend: Backend[FeatureT, ContextT],
        config: KeyframeConfig | None = None,
        plan: TaskPlan | None = None,
        *,
        worker: RefreshWorker[FeatureT, ContextT] | None = None,
        budget_ms: float = 0.0,
        rule: ConfidenceRule | None = None,
    ) -> None:
        self.backend = backend
        self.worker = worker
        self._config = config or KeyframeConfig()
        self._plan = plan or TaskPlan()
        self._budget_ms = budget_ms
        self._rule = rule or ConfidenceRule()
        self._streams: dict[str, Stream[FeatureT, ContextT]] = {}

    def stream(self, camera: str = '') -> Stream[FeatureT, ContextT]:
        """The stream of a camera, made on first use."""
        if camera not in self._streams:
            refresher = None if self.worker is None else self.worker.refresher(self.backend)
            self._streams[camera] = Stream(
                camera, self.backend, self._config, self._plan, refresher, self._budget_ms, self._rule
            )
        return self._streams[camera]

    def spread(self, cameras: Sequence[str]) -> None:
        """Let the cameras, which run side by side, make their key frames at different times."""
        for index, camera in enumerate(cameras):
            self.stream(camera).phase = Phase(index, len(cameras))

    def step(self, frame: Frame, unread: Container[str] = ()) -> StepResult:
        """Answer a frame in the stream of its camera; tasks in `unread` do not run."""
        return self.stream(frame.camera).step(frame, unread)

    def configure(
        self, config: KeyframeConfig, plan: TaskPlan | None = None, budget_ms: float | None = None
    ) -> None:
        """Use another key-frame configuration, and task plan and budget where they are given, in every stream
        from its next frame on.
        """
        self._config = config
        self._plan = plan or self._plan
        self._budget_ms = self._budget_ms if budget_ms is None else budget_ms
        for stream in self._streams.values():
            stream.configure(config, plan, budget_ms)

    def reset(self, cause: ResetCause = ResetCause.REQUESTED) -> None:
        """Drop the key frames of all cameras."""
        for stream in self._streams.values():
            stream.reset(cause)

    def refresh(self) -> None:
        """Make the next frame of each camera a key frame; see Stream."""
        for stream in self._streams.values():
            stream.refresh()

    def warm_up(self, size: tuple[int, int]) -> None:
        """Warm up the backends for an image size, (height, width)."""
        self.backend.warm_up(size)
        if self.worker is not None:
            self.worker.warm_up(size)

    def close(self) -> None:
        """End the worker and free the backends; calling it twice is harmless."""
        try:
            if self.worker is not None:
                self.worker.close()
        finally:
            self.backend.close()
