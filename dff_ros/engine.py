"""Deep Feature Flow without tensors: when to compute, and which cached feature to use."""

from __future__ import annotations

import time
from typing import Generic

from dff_ros.backends.base import Backend
from dff_ros.cache import KeyFrameCache
from dff_ros.config import KeyframeConfig
from dff_ros.errors import ConfigError
from dff_ros.scheduling import make_scheduler
from dff_ros.types import (
    Action,
    ContextT,
    Decision,
    FeatureT,
    Frame,
    KeyFrame,
    ResetCause,
    StepResult,
    Timings,
)


def _ms_since(start_ns: int) -> float:
    return (time.perf_counter_ns() - start_ns) / 1e6


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

        A frame that cannot follow the ones before it (other size, encoding or frame_id, backward stamp, gap) drops
        the key frame first. An error of the backend drops it too and is raised; the next frame starts afresh.
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
            return self._refresh(frame, decision, cause, start_ns)
        return self._propagate(frame, key, decision, cause, start_ns)

    def _refresh(
        self, frame: Frame, decision: Decision, cause: ResetCause | None, start_ns: int
    ) -> StepResult:
        key = self._backend.extract(frame.image_HW3)
        extract_ms = _ms_since(start_ns)
        predict_start_ns = time.perf_counter_ns()
        segmentation = self._backend.predict(key.feature, frame.size, frame.size)
        self._cache.store(key, frame)
        return StepResult(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            camera=frame.camera,
            is_key=True,
            reason=decision.reason,
            reset_cause=cause,
            age_frames=0,
            age_s=0.0,
            motion_px=0.0,
            coverage=1.0,
            segmentation=segmentation,
            timings=Timings(
                extract_ms=extract_ms, predict_ms=_ms_since(predict_start_ns), total_ms=_ms_since(start_ns)
            ),
        )

    def _propagate(
        self,
        frame: Frame,
        key: KeyFrame[FeatureT, ContextT],
        decision: Decision,
        cause: ResetCause | None,
        start_ns: int,
    ) -> StepResult:
        propagation = self._backend.propagate(frame.image_HW3, key.key)
        propagate_ms = _ms_since(start_ns)
        predict_start_ns = time.perf_counter_ns()
        segmentation = self._backend.predict(propagation.feature, frame.size, frame.size)
        signal = self._cache.signal(frame)
        return StepResult(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            camera=frame.camera,
            is_key=False,
            reason=decision.reason,
            reset_cause=cause,
            age_frames=0 if signal is None else signal.frames_since_key,
            age_s=0.0 if signal is None else signal.seconds_since_key,
            motion_px=propagation.motion_px,
            coverage=propagation.coverage,
            segmentation=segmentation,
            timings=Timings(
                propagate_ms=propagate_ms,
                flow_ms=propagation.flow_ms,
                warp_ms=propagation.warp_ms,
                predict_ms=_ms_since(predict_start_ns),
                total_ms=_ms_since(start_ns),
            ),
        )


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
