# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""One image message to its answer: convert, step, publish, account. The node does it on its engine thread,
`dff bag` message by message.
"""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from dff_ros import camera_info, memory, stream
from dff_ros.camera_info import CameraInfoError, CameraInfos, Intrinsics, intrinsics_of
from dff_ros.config import DffConfig
from dff_ros.errors import DffError
from dff_ros.frame_facts import DROPPED, FrameFacts, Setup, Totals, state_of
from dff_ros.health import CameraHealth
from dff_ros.mailbox import Counts, Mailbox
from dff_ros.memory import is_out_of_memory
from dff_ros.messages import ImageMessage, stamp_to_ns, to_frame
from dff_ros.model import Model
from dff_ros.stamps import DUPLICATE, StampWatch
from dff_ros.timing import ms_since
from dff_ros.types import Detections, Frame, Segmentation, StepResult

CONVERSION, DUPLICATE_STAMP, ENGINE_ERROR = 'conversion', 'duplicate_stamp', 'engine_error'
OUT_OF_MEMORY = 'out_of_memory'
DEADLINE = stream.DEADLINE
INTERNAL_ERROR = 'internal_error'
"""Drop reasons, besides those of the mailbox; INTERNAL_ERROR: answering it raised."""

_LOG_PERIOD_S = 5.0


class Outlet(Protocol):
    """Takes what an image is answered with. Headers are those of the image messages, of whatever class."""

    def unread_tasks(self) -> Collection[str]:
        """Tasks whose answers nobody reads now."""

    def publish_segmentation(self, header: Any, answer: Segmentation) -> None:
        """Label map and confidence."""

    def publish_camera_info(self, header: Any, info: Any, found: Intrinsics) -> None:
        """The calibration of the label map: `info` as it came, and what changes in it."""

    def publish_detections(self, header: Any, found: Detections) -> None:
        """The boxes."""

    def publish_overlay(self, header: Any, frame: Frame, result: StepResult, alpha: float) -> None:
        """The picture for people, where one is wanted."""

    def publish_status(self, header: Any, facts: FrameFacts) -> None:
        """What became of the image."""


class Logger(Protocol):
    """Takes warnings."""

    def warning(self, text: str) -> object:
        """Show a line."""


@dataclass(frozen=True, slots=True)
class Received:
    """An image message and when it came, by `time.perf_counter_ns`; of a recorded one, `recorded_ns` is when
    it came then.
    """

    message: ImageMessage
    received_ns: int
    recorded_ns: int | None = None

    @property
    def arrival_ns(self) -> int:
        """When it came, to be compared with that of others."""
        return self.received_ns if self.recorded_ns is None else self.recorded_ns


class Pipeline:
    """Answers the messages of one camera, one at a time, and tells what became of each."""

    def __init__(
        self,
        camera: str,
        mailbox: Mailbox[Received],
        outlet: Outlet,
        logger: Logger,
        clock_ns: Callable[[], int] = lambda: 0,
    ) -> None:
        self._camera = camera
        self._mailbox = mailbox
        self._outlet = outlet
        self._logger = logger
        self._clock_ns = clock_ns
        self._stamps = StampWatch()
        self.health = CameraHealth()
        self._resets: Counter[str] = Counter()
        self._num_lost = 0
        self._logged_s: dict[str, float] = {}
        self.camera_infos = CameraInfos()
        self._camera_info = camera_info.NONE
        self._num_infos_refused = 0

    def answer(self, model: Model, config: DffConfig, item: Received) -> None:
        """Publish what the tasks answer to a message, overlay and status, or drop it with a reason. `config`
        is the one in use.
        """
        start_ns = time.perf_counter_ns()
        try:
            frame = to_frame(item.message, self._camera, config.image_limits)
        except DffError as error:
            self._drop(item, CONVERSION, str(error))
            return
        except MemoryError as error:
            self._drop_for_memory(item, error)
            return
        if self._observe(item, frame.stamp_ns, config):
            self._drop(
                item,
                DUPLICATE_STAMP,
                'two images with one stamp: the camera driver must stamp each image, or send 0',
            )
            return
        self._step(model, config, item, frame, ms_since(start_ns))

    def _step(self, model: Model, config: DffConfig, item: Received, frame: Frame, convert_ms: float) -> None:
        try:
            result = model.engine.step(frame, self._outlet.unread_tasks() if config.pause_unread else ())
        except (
            Exception
        ) as error:  # whatever a runtime raises costs this frame and the key frame, not the node
            if is_out_of_memory(error):
                self._drop_for_memory(item, error)
            else:
                self._drop(
                    item, ENGINE_ERROR, f'{type(error).__name__}: {error}; the next frame starts afresh'
                )
            return
        self._stamps.answered(frame.stamp_ns)
        if result.reset_cause:
            self._resets[result.reset_cause.value] += 1
        if result.is_skipped:
            late = f'frames take more than {config.budget_ms:g} ms (budget_ms) even at the longest interval'
            self._drop(item, DEADLINE, late, result)
            return
        latency_ms = self._publish(item, frame, result, config)
        facts = FrameFacts(
            state=state_of(result),
            reason=result.reason,
            camera=self._camera,
            result=result,
            convert_ms=convert_ms,
            latency_ms=latency_ms,
            setup=Setup(config=config, backend=model.engine.backend.info),
            camera_info=self._camera_info,
            totals=self._totals(self._mailbox.done(self._camera)),
        )
        self.health.answered(facts.state, latency_ms, result.age_frames, result.age_s)
        self._outlet.publish_status(item.message.header, facts)

    def _publish(self, item: Received, frame: Frame, result: StepResult, config: DffConfig) -> float | None:
        """Publish the answers, then the overlay; the milliseconds from the image's receipt to its answers,
        None where it has none.
        """
        if result.is_idle:
            return None
        header = item.message.header
        if result.segmentation is not None:
            self._outlet.publish_segmentation(header, result.segmentation)
            self._publish_camera_info(header, frame, result.segmentation)
        if result.detections is not None:
            self._outlet.publish_detections(header, result.detections)
        latency_ms = ms_since(item.received_ns)
        self._outlet.publish_overlay(header, frame, result, config.overlay.alpha)
        return latency_ms

    def _publish_camera_info(self, header: Any, frame: Frame, answer: Segmentation) -> None:
        """Tell the calibration of a label map, or why there is none."""
        info = self.camera_infos.at(header.stamp)
        if info is None:
            return
        height, width = answer.label_map_HW.shape
        try:
            found = intrinsics_of(info, frame.size, (height, width))
        except CameraInfoError as error:
            self._camera_info = error.state
            self._num_infos_refused += 1
            self._warn(error.state, f'no dff/camera_info with the label map: {error}')
            return
        self._outlet.publish_camera_info(header, info, found)
        self._camera_info = camera_info.PUBLISHED

    def _observe(self, item: Received, stamp_ns: int, config: DffConfig) -> bool:
        """Count and note what is peculiar about a stamp; whether it is a duplicate."""
        clock_ns = self._clock_ns()
        kinds = self._stamps.observe(stamp_ns, item.arrival_ns, clock_ns, config.keyframe.max_gap_s)
        for note in self._stamps.notes(kinds, stamp_ns, clock_ns):
            self._log(note)
        return DUPLICATE in kinds

    def _drop_for_memory(self, item: Received, error: Exception) -> None:
        """The engine has dropped this camera's key frame; those of other cameras serve on."""
        detail = f'{type(error).__name__}: {error}'
        error.__traceback__ = None  # its frames hold what was being computed
        memory.release()
        self._drop(item, OUT_OF_MEMORY, f'{detail}; {memory.REMEDY}; the next frame starts afresh')

    def counted(self, counts: Counts) -> dict[str, object]:
        """What happened so far: the camera's counts, as in `dff/status`. From any thread."""
        return self._totals(counts).values()

    def count_lost(self, num_lost: int, remedy: str = '') -> None:
        """Count images that the middleware lost before the node; called on the executor's thread."""
        self._num_lost += num_lost
        self._warn('lost', f'{self._num_lost} images were lost on the way to the node; {remedy}')

    def fail(self, item: Received, error: BaseException) -> None:
        """Tell of a message whose answer raised; publishes nothing, for that may be what failed."""
        stamp_ns = stamp_to_ns(item.message.header.stamp)
        trace = ''.join(traceback.format_exception(error))
        self._warn(
            INTERNAL_ERROR, f'image {stamp_ns} ns was not answered in full; please report this:\n{trace}'
        )

    def _drop(self, item: Received, reason: str, detail: str, result: StepResult | None = None) -> None:
        """Count, warn and tell; `result` is the engine's, of a frame that it skipped."""
        counts = self._mailbox.drop(reason, self._camera)
        stamp_ns = stamp_to_ns(item.message.header.stamp)
        self._warn(
            reason, f'image {stamp_ns} ns dropped ({reason}, {counts.dropped[reason]} so far): {detail}'
        )
        facts = FrameFacts(
            state=DROPPED if result is None else state_of(result),
            reason=reason,
            detail=detail,
            camera=self._camera,
            result=result,
            camera_info=self._camera_info,
            totals=self._totals(counts),
        )
        self._outlet.publish_status(item.message.header, facts)

    def _totals(self, counts: Counts) -> Totals:
        return Totals(
            received=counts.received,
            processed=counts.processed,
            pending=counts.pending,
            dropped=counts.dropped,
            lost=self._num_lost,
            resets=dict(self._resets),
            stamps=dict(self._stamps.counts),
            camera_infos_refused=self._num_infos_refused,
        )

    def _warn(self, topic: str, text: str) -> None:
        """Log a warning, at most one on each topic in _LOG_PERIOD_S."""
        now_s = time.monotonic()
        if now_s - self._logged_s.get(topic, -_LOG_PERIOD_S) >= _LOG_PERIOD_S:
            self._logged_s[topic] = now_s
            self._log(text)

    def _log(self, text: str) -> None:
        self._logger.warning(f'camera {self._camera}: {text}' if self._camera else text)
