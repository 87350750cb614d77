# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""One camera's stream: when to compute, and which cached feature to use."""

from __future__ import annotations

import time
from collections.abc import Container
from typing import Generic

import numpy as np

from dff_ros.backends.base import Backend
from dff_ros.cache import KeyFrameCache
from dff_ros.confidence import ConfidenceRule
from dff_ros.config import KeyframeConfig
from dff_ros.deadline import DeadlineController
from dff_ros.errors import ConfigError
from dff_ros.heads import run_heads
from dff_ros.phases import Phase
from dff_ros.refresh import InlineRefresher, Refresher, make_key_frame
from dff_ros.schedulers import make_scheduler
from dff_ros.scheduling import Reason, Signal
from dff_ros.tasks import TaskPlan
from dff_ros.timing import ms_since
from dff_ros.types import (
    Action,
    ContextT,
    Decision,
    FeatureT,
    Frame,
    KeyFrame,
    Propagation,
    ResetCause,
    StepResult,
    Timings,
)

NOTHING_DUE = 'nothing_due'
"""Reason of an idle frame."""

UNREAD = 'unread'
"""Reason of an idle frame on which tasks were due, but none whose answers anyone reads."""

DEADLINE = 'deadline'
"""Reason of a frame that was skipped for want of time, or on which a refresh was put off for it."""

REQUESTED = 'requested'
"""Reason of a key frame that `refresh` asked for."""

OVERDUE = 'overdue'
"""Reason of a key frame in place of one that has been in flight for `keyframe.max_interval` frames."""

REFRESHING = 'refreshing'
"""Reason of a propagated frame on which a refresh is due while another one is in flight."""


class Stream(Generic[FeatureT, ContextT]):
    """One camera: a key-frame cache and the step that answers a frame. Use from one thread at a time.

    `phase` shifts its key frames against those of other streams. `refresher` makes the key frames that need
    not be waited for; None: the backend makes them at once.
    `budget_ms`: see DeadlineController. `rule`: what the bundle's confidence is made of.
    """

    def __init__(
        self,
        camera: str,
        backend: Backend[FeatureT, ContextT],
        config: KeyframeConfig,
        plan: TaskPlan,
        refresher: Refresher[FeatureT, ContextT] | None = None,
        budget_ms: float = 0.0,
        rule: ConfidenceRule | None = None,
    ) -> None:
        self.camera = camera
        self.phase = Phase()
        self._backend = backend
        self._cache: KeyFrameCache[FeatureT, ContextT] = KeyFrameCache()
        self._refresher = refresher or InlineRefresher(backend)
        self._deadline = DeadlineController(budget_ms, config.max_interval)
        self._pending_cause: ResetCause | None = None
        self._is_refresh_requested = False
        self._asked_number = 0
        self._is_asked_by_age = False
        self._lead_s = 0.0
        self._plan = plan
        self._rule = rule or ConfidenceRule()
        self._config = config
        self._scheduler = make_scheduler(config)

    def configure(
        self, config: KeyframeConfig, plan: TaskPlan | None = None, budget_ms: float | None = None
    ) -> None:
        """Use another key-frame configuration, and task plan and budget where they are given, from the next
        frame on; the key frame is kept.
        """
        self._plan = plan or self._plan
        if config != self._config:  # else a budget would forget what was spent
            self._scheduler = make_scheduler(config)
        self._config = config
        self._deadline.configure(budget_ms, config.max_interval)

    def reset(self, cause: ResetCause = ResetCause.REQUESTED) -> None:
        """Drop the key frame and what is in flight; the next frame becomes one and reports the cause."""
        self._cache.drop()
        self._refresher.discard()
        self._pending_cause = cause

    def refresh(self) -> None:
        """Make the next frame that is answered a key frame by its own feature; the one in use serves until
        then.
        """
        self._is_refresh_requested = True

    def step(self, frame: Frame, unread: Container[str] = ()) -> StepResult:
        """Answer one frame, in order: run the tasks that are due on it, but those in `unread`.

        A frame that cannot follow the ones before it (other size, encoding or frame_id, backward stamp, gap)
        drops the key frame first. An error of the backend drops it too and is raised; the next frame starts
        afresh.
        """
        if frame.camera != self.camera:
            raise ConfigError(f'stream {self.camera!r} was given a frame of camera {frame.camera!r}')
        start_ns = time.perf_counter_ns()
        cause = self._cache.admit(frame, self._config.max_gap_s) or self._pending_cause
        if cause is not None:
            self._refresher.discard()
        try:
            result = self._answer(frame, cause, start_ns, unread)
        except Exception:
            self.reset(ResetCause.ERROR)
            raise
        self._pending_cause = None
        self._is_refresh_requested &= not result.is_key
        return result

    def _answer(
        self, frame: Frame, cause: ResetCause | None, start_ns: int, unread: Container[str]
    ) -> StepResult:
        is_swapped, is_too_old = self._swap() is not None, self._is_asked_by_age
        if is_swapped:
            self._lead_s = self._cache.seconds_since_key
        planned = self._plan.due(self._cache.number)
        due = tuple(task for task in planned if task not in unread)
        signal = self._cache.signal(frame, self._refresher.is_busy)
        if not due or self._deadline.is_skipping:
            reason = DEADLINE if due else UNREAD if planned else NOTHING_DUE
            self._deadline.rest(is_skipped=bool(due), is_refreshed=is_swapped)
            return self._idle(frame, cause, signal, start_ns, is_swapped, reason)
        decision = self._decide(signal)
        key = self._refresh(frame, decision)
        is_key = key.number == self._cache.number
        if is_key or signal is None:  # its own feature is the propagation over no motion
            propagation = Propagation(key.key.feature, np.ones((1, 1), np.float32), 0.0, 1.0)
            age_frames, age_s = 0, 0.0
        else:
            propagation = self._backend.propagate(frame.image_HW3, key.key)
            self._cache.measure(propagation, self._config.disagreement_floor)
            age_frames, age_s = signal.frames_since_key, signal.seconds_since_key
        feature_ms = ms_since(start_ns)
        heads = run_heads(self._backend, propagation, age_s, frame.size, self._plan, due, self._rule)
        is_refreshed, is_refreshing = is_key or is_swapped, is_key or self._refresher.is_busy
        self._deadline.spent(
            ms_since(start_ns),
            is_refresh=is_refreshing,
            is_refreshed=is_refreshed,
            is_too_old=decision.reason == Reason.MAX_AGE if is_key else is_too_old,
        )
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
            residual=propagation.residual,
            disagreement=propagation.disagreement,
            disagreement_sum=None if propagation.disagreement is None else self._cache.disagreement_sum,
            change=signal.change if signal else None,
            key_change=signal.key_change if signal else None,
            is_refreshed=is_refreshed,
            segmentation=heads.segmentation,
            mean_confidence=heads.mean_confidence,
            share_unknown=heads.share_unknown,
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
        """What the scheduler asks for, if a refresh fits the deadline and none is in flight."""
        seen = signal
        if signal is not None and self._cache.is_first_key:
            seen = self.phase.in_first_interval(signal)
        decision = self._scheduler.decide(seen)
        if self._is_refresh_requested:
            return Decision(Action.REFRESH_NOW, REQUESTED)
        if signal is None or decision.action is Action.REFRESH_NOW:
            return decision
        # Else a key frame from the background would come too late, and the frame at the cap wait for its own.
        is_aging = signal.seconds_since_key + 2 * self._lead_s > self._config.max_age_s
        if is_aging and self._lead_s:
            decision = Decision(Action.REFRESH, Reason.MAX_AGE)
        elif decision.action is Action.PROPAGATE:
            return decision
        elif signal.frames_since_key < self._deadline.min_interval:
            return Decision(Action.PROPAGATE, DEADLINE)
        if not signal.is_refreshing:
            return decision
        if self._cache.number - self._asked_number >= self._config.max_interval:
            return Decision(Action.REFRESH_NOW, OVERDUE)
        return Decision(Action.PROPAGATE, REFRESHING)

    def _refresh(self, frame: Frame, decision: Decision) -> KeyFrame[FeatureT, ContextT]:
        """Begin or make a key frame where that is asked for; the one to answer the frame from."""
        key = self._cache.key
        if key is not None and decision.action is Action.PROPAGATE:
            return key
        asked = frame, self._cache.number, self._cache.thumbnail
        self._asked_number = self._cache.number
        self._is_asked_by_age = decision.reason == Reason.MAX_AGE
        if key is not None and decision.action is Action.REFRESH:
            self._refresher.submit(*asked)
            return self._swap() or key
        self._refresher.discard()  # what is in flight is too old as well, or of before the cut
        key = make_key_frame(self._backend, *asked)
        self._cache.store(key)
        return key

    def _swap(self) -> KeyFrame[FeatureT, ContextT] | None:
        """Take the key frame into use that is ready, if one is."""
        key = self._refresher.poll()
        if key is not None:
            self._cache.store(key)
        return key

    def _idle(
        self,
        frame: Frame,
        cause: ResetCause | None,
        signal: Signal | None,
        start_ns: int,
        is_refreshed: bool,
        reason: str,
    ) -> StepResult:
        """Nothing is computed; a key frame that is due waits for the next frame that is answered."""
        return StepResult(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            camera=frame.camera,
            is_key=False,
            reason=reason,
            reset_cause=cause,
            age_frames=signal.frames_since_key if signal else 0,
            age_s=signal.seconds_since_key if signal else 0.0,
            is_refreshed=is_refreshed,
            is_skipped=reason == DEADLINE,
            timings=Timings(total_ms=ms_since(start_ns)),
        )
