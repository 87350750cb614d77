"""Deep Feature Flow without tensors: when to compute, and which cached feature to use."""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from dff_ros.backends.base import Backend
from dff_ros.cache import KeyFrameCache
from dff_ros.config import KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.phases import Phase
from dff_ros.scheduling import Signal, make_scheduler
from dff_ros.tasks import DETECTION, SEGMENTATION, TaskPlan
from dff_ros.timing import ms_since
from dff_ros.types import (
    Action,
    ContextT,
    Decision,
    Detections,
    FeatureT,
    Frame,
    Propagation,
    ResetCause,
    Segmentation,
    StepResult,
    Timings,
)

NOTHING_DUE = 'nothing_due'
"""Reason of an idle frame."""


@dataclass(slots=True)
class _Heads:
    """What the heads answered to one feature, and how long each took."""

    segmentation: Segmentation | None = None
    detections: Detections | None = None
    segmentation_ms: float = 0.0
    detection_ms: float = 0.0


class Stream(Generic[FeatureT, ContextT]):
    """One camera: a key-frame cache and the step that answers a frame. Use from one thread at a time.

    `phase` shifts its key frames against those of other streams.
    """

    def __init__(
        self, camera: str, backend: Backend[FeatureT, ContextT], config: KeyframeConfig, plan: TaskPlan
    ) -> None:
        self.camera = camera
        self.phase = Phase()
        self._backend = backend
        self._cache: KeyFrameCache[FeatureT, ContextT] = KeyFrameCache()
        self._pending_cause: ResetCause | None = None
        self._plan = plan
        self.configure(config)

    def configure(self, config: KeyframeConfig, plan: TaskPlan | None = None) -> None:
        """Use another key-frame configuration, and task plan where one is given, from the next frame on; the
        key frame is kept.
        """
        self._config = config
        self._plan = plan or self._plan
        self._scheduler = make_scheduler(config)

    def reset(self, cause: ResetCause = ResetCause.REQUESTED) -> None:
        """Drop the key frame; the next frame becomes one and reports the cause."""
        self._cache.drop()
        self._pending_cause = cause

    def step(self, frame: Frame) -> StepResult:
        """Answer one frame, in order: run the tasks that are due on it.

        A frame that cannot follow the ones before it (other size, encoding or frame_id, backward stamp, gap)
        drops the key frame first. An error of the backend drops it too and is raised; the next frame starts
        afresh.
        """
        if frame.camera != self.camera:
            raise ConfigError(f'stream {self.camera!r} was given a frame of camera {frame.camera!r}')
        start_ns = time.perf_counter_ns()
        cause = self._cache.admit(frame, self._config.max_gap_s) or self._pending_cause
        try:
            result = self._answer(frame, cause, start_ns)
        except Exception:
            self.reset(ResetCause.ERROR)
            raise
        self._pending_cause = None
        return result

    def _answer(self, frame: Frame, cause: ResetCause | None, start_ns: int) -> StepResult:
        due = self._plan.due(self._cache.number)
        signal = self._cache.signal(frame)
        if not due:
            return self._idle(frame, cause, signal, start_ns)
        decision = self._decide(signal)
        key = self._cache.key
        if key is None or signal is None or decision.action is not Action.PROPAGATE:
            propagation = self._refresh(frame)
            is_key, age_frames, age_s = True, 0, 0.0
        else:
            propagation = self._backend.propagate(frame.image_HW3, key.key)
            self._cache.measure(propagation)
            is_key, age_frames, age_s = False, signal.frames_since_key, signal.seconds_since_key
        feature_ms = ms_since(start_ns)
        heads = self._predict(propagation.feature, frame, due)
        return StepResult(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            camera=frame.camera,
            is_key=is_key,
            reason=decision.reason,
            reset_cause=cause,
            age_frames=age_frames,
            age_s=age_s,
            motion_px=propagation.motion_px,
            coverage=propagation.coverage,
            segmentation=heads.segmentation,
            detections=heads.detections,
            timings=Timings(
                extract_ms=feature_ms if is_key else 0.0,
                propagate_ms=0.0 if is_key else feature_ms,
                flow_ms=propagation.flow_ms,
                warp_ms=propagation.warp_ms,
                correct_ms=propagation.correct_ms,
                predict_ms=heads.segmentation_ms + heads.detection_ms,
                predict_segmentation_ms=heads.segmentation_ms,
                predict_detection_ms=heads.detection_ms,
                total_ms=ms_since(start_ns),
            ),
        )

    def _decide(self, signal: Signal | None) -> Decision:
        if signal is not None and self._cache.is_first_key:
            signal = self.phase.in_first_interval(signal)
        return self._scheduler.decide(signal)

    def _idle(
        self, frame: Frame, cause: ResetCause | None, signal: Signal | None, start_ns: int
    ) -> StepResult:
        """No task is due, so nothing is computed; a key frame that is due waits for the next task."""
        return StepResult(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            camera=frame.camera,
            is_key=False,
            reason=NOTHING_DUE,
            reset_cause=cause,
            age_frames=signal.frames_since_key if signal else 0,
            age_s=signal.seconds_since_key if signal else 0.0,
            timings=Timings(total_ms=ms_since(start_ns)),
        )

    def _predict(self, feature: FeatureT, frame: Frame, due: Container[str]) -> _Heads:
        """Run the heads of the tasks that are due."""
        heads = _Heads()
        if SEGMENTATION in due:
            start_ns = time.perf_counter_ns()
            heads.segmentation = self._backend.predict(feature, frame.size, frame.size)
            heads.segmentation_ms = ms_since(start_ns)
        if DETECTION in due:
            start_ns = time.perf_counter_ns()
            wanted = self._plan.detection
            found = self._backend.detect(feature, frame.size, wanted.nms_iou, wanted.score_threshold)
            heads.detections = self._plan.select(found)
            heads.detection_ms = ms_since(start_ns)
        return heads

    def _refresh(self, frame: Frame) -> Propagation[FeatureT]:
        """Make the frame the key frame; its own feature is the propagation over no motion."""
        key = self._backend.extract(frame.image_HW3)
        self._cache.store(key, frame)
        return Propagation(key.feature, np.ones((1, 1), np.float32), motion_px=0.0, coverage=1.0)


class Engine(Generic[FeatureT, ContextT]):
    """One backend shared by the streams of all cameras. Without a plan every frame is segmented."""

    def __init__(
        self,
        backend: Backend[FeatureT, ContextT],
        config: KeyframeConfig | None = None,
        plan: TaskPlan | None = None,
    ) -> None:
        self.backend = backend
        self._config = config or KeyframeConfig()
        self._plan = plan or TaskPlan()
        self._streams: dict[str, Stream[FeatureT, ContextT]] = {}

    def stream(self, camera: str = '') -> Stream[FeatureT, ContextT]:
        """The stream of a camera, made on first use."""
        if camera not in self._streams:
            self._streams[camera] = Stream(camera, self.backend, self._config, self._plan)
        return self._streams[camera]

    def spread(self, cameras: Sequence[str]) -> None:
        """Let the cameras, which run side by side, make their key frames at different times."""
        for index, camera in enumerate(cameras):
            self.stream(camera).phase = Phase(index, len(cameras))

    def step(self, frame: Frame) -> StepResult:
        """Answer a frame in the stream of its camera."""
        return self.stream(frame.camera).step(frame)

    def configure(self, config: KeyframeConfig, plan: TaskPlan | None = None) -> None:
        """Use another key-frame configuration, and task plan where one is given, in every stream from its
        next frame on.
        """
        self._config = config
        self._plan = plan or self._plan
        for stream in self._streams.values():
            stream.configure(config, plan)

    def reset(self, cause: ResetCause = ResetCause.REQUESTED) -> None:
        """Drop the key frames of all cameras."""
        for stream in self._streams.values():
            stream.reset(cause)
