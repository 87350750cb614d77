"""Deep Feature Flow without tensors: when to compute, and which cached feature to use."""

from __future__ import annotations

import time
from typing import Generic

import numpy as np

from dff_ros.backends.base import Backend
from dff_ros.cache import KeyFrameCache
from dff_ros.config import KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.scheduling import make_scheduler
from dff_ros.timing import ms_since
from dff_ros.types import (
    Action,
    ContextT,
    FeatureT,
    Frame,
    Propagation,
    ResetCause,
    StepResult,
    Timings,
)


class Stream(Generic[FeatureT, ContextT]):
    """One camera: a key-frame cache and the step that answers a frame. Use from one thread at a time."""

    def __init__(self, camera: str, backend: Backend[FeatureT, ContextT], config: KeyframeConfig) -> None:
        self.camera = camera
        self._backend = backend
        self._cache: KeyFrameCache[FeatureT, ContextT] = KeyFrameCache()
        self._pending_cause: ResetCause | None = None
        self.configure(config)

    def configure(self, config: KeyframeConfig) -> None:
        """Use another key-frame configuration from the next frame on; the key frame is kept."""
        self._config = config
        self._scheduler = make_scheduler(config)

    def reset(self, cause: ResetCause = ResetCause.REQUESTED) -> None:
        """Drop the key frame; the next frame becomes one and reports the cause."""
        self._cache.drop()
        self._pending_cause = cause

    def step(self, frame: Frame) -> StepResult:
        """Answer one frame, in order.

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
        signal = self._cache.signal(frame)
        decision = self._scheduler.decide(signal)
        key = self._cache.key
        if key is None or signal is None or decision.action is not Action.PROPAGATE:
            propagation = self._refresh(frame)
            is_key, age_frames, age_s = True, 0, 0.0
        else:
            propagation = self._backend.propagate(frame.image_HW3, key.key)
            is_key, age_frames, age_s = False, signal.frames_since_key, signal.seconds_since_key
        feature_ms = ms_since(start_ns)
        segmentation = self._backend.predict(propagation.feature, frame.size, frame.size)
        total_ms = ms_since(start_ns)
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
            segmentation=segmentation,
            timings=Timings(
                extract_ms=feature_ms if is_key else 0.0,
                propagate_ms=0.0 if is_key else feature_ms,
                flow_ms=propagation.flow_ms,
                warp_ms=propagation.warp_ms,
                correct_ms=propagation.correct_ms,
                predict_ms=total_ms - feature_ms,
                total_ms=total_ms,
            ),
        )

    def _refresh(self, frame: Frame) -> Propagation[FeatureT]:
        """Make the frame the key frame; its own feature is the propagation over no motion."""
        key = self._backend.extract(frame.image_HW3)
        self._cache.store(key, frame)
        return Propagation(key.feature, np.ones((1, 1), np.float32), motion_px=0.0, coverage=1.0)


class Engine(Generic[FeatureT, ContextT]):
    """One backend shared by the streams of all cameras."""

    def __init__(self, backend: Backend[FeatureT, ContextT], config: KeyframeConfig | None = None) -> None:
        self.backend = backend
        self._config = config or KeyframeConfig()
        self._streams: dict[str, Stream[FeatureT, ContextT]] = {}

    def stream(self, camera: str = '') -> Stream[FeatureT, ContextT]:
        """The stream of a camera, made on first use."""
        if camera not in self._streams:
            self._streams[camera] = Stream(camera, self.backend, self._config)
        return self._streams[camera]

    def step(self, frame: Frame) -> StepResult:
        """Answer a frame in the stream of its camera."""
        return self.stream(frame.camera).step(frame)

    def configure(self, config: KeyframeConfig) -> None:
        """Use another key-frame configuration in every stream from its next frame on."""
        self._config = config
        for stream in self._streams.values():
            stream.configure(config)

    def reset(self, cause: ResetCause = ResetCause.REQUESTED) -> None:
        """Drop the key frames of all cameras."""
        for stream in self._streams.values():
            stream.reset(cause)
