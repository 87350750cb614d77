# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Follows camera and node from outside: pairs what belongs to one frame by its stamp, keeps the figures."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.event_handler import QoSSubscriptionMatchedInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from dff_ros.errors import DffError
from dff_ros.frame_facts import DROPPED, IDLE, KEY, SKIPPED
from dff_ros.messages import stamp_to_ns, to_frame
from dff_ros.report import STAGES, FrameStatistics
from dff_ros.ros.accounts import Accounts, node_drops
from dff_ros.ros.answer import Answer
from dff_ros.ros.camera import FINISHED
from dff_ros.ros.conversions import diagnostic_values, to_detections
from dff_ros.ros.publishers import TASK_TOPICS
from dff_ros.tasks import DETECTION, SEGMENTATION

_DEPTH = 200
_MAX_OPEN = 4096
_MAX_IMAGE_BYTES = 128 << 20
_MIN_IMAGES = 16
_FPS_WINDOW = 60


class Monitor(Node):
    """Subscribes to camera and node; calls `on_answer` once for each answered frame, in order of completion.

    Latency runs from the image's stamp to the receipt of the last task's answer where `is_live` (stamps are
    wall-clock), else it is the node's own, from the receipt of the image to the published answers.
    `box_class_names` are those of the node's bundle.
    """

    def __init__(
        self,
        on_answer: Callable[[Answer], None],
        *,
        is_live: bool,
        box_class_names: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        super().__init__('dff_monitor', **options)
        self.statistics = FrameStatistics()
        self.totals: Mapping[str, str] = {}
        self.num_published = 0
        self.is_finished = False
        self.camera_error = ''
        self.num_unreadable = 0
        self.last_news_s = time.monotonic()
        self._on_answer = on_answer
        self._is_live = is_live
        self._box_class_names = box_class_names
        self._open: OrderedDict[int, Answer] = OrderedDict()
        self._answered_s: deque[float] = deque(maxlen=_FPS_WINDOW)
        self._first_answer_s: float | None = None
        self._num_answered = 0
        self._camera_times: list[tuple[int, int]] = []
        self._num_publishers: dict[str, int] = {}
        for kind, topic, callback, reliability in (
            (Image, 'image', self._on_image, ReliabilityPolicy.BEST_EFFORT),
            (Image, TASK_TOPICS[SEGMENTATION], self._on_label_map, ReliabilityPolicy.RELIABLE),
            (Detection2DArray, TASK_TOPICS[DETECTION], self._on_detections, ReliabilityPolicy.RELIABLE),
            (DiagnosticArray, 'dff/status', self._on_status, ReliabilityPolicy.RELIABLE),
            (DiagnosticArray, 'dff_camera/status', self._on_camera, ReliabilityPolicy.RELIABLE),
        ):
            profile = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=_DEPTH, reliability=reliability)
            events = SubscriptionEventCallbacks(matched=partial(self._on_matched, topic))
            self.create_subscription(kind, topic, callback, profile, event_callbacks=events)

    def has_found(self, *topics: str) -> bool:
        """Each of the subscriptions is matched with a publisher: what that publishes from now on arrives."""
        return all(self._num_publishers.get(topic, 0) for topic in topics)

    @property
    def num_processed(self) -> int:
        """Frames whose answers and status have come."""
        return self.statistics.num_frames + sum(answer.is_answered for answer in self._open.values())

    @property
    def is_settled(self) -> bool:
        """Every published frame is answered, or dropped by the node for a reason."""
        return self.num_processed + sum(node_drops(self.totals).values()) >= self.num_published

    def fps(self, *, recent: bool = False) -> float | None:
        """Answers per second from the first to the last, or over the latest ones; None before the second."""
        if len(self._answered_s) < 2 or self._first_answer_s is None:
            return None
        start_s, count = (
            (self._answered_s[0], len(self._answered_s))
            if recent
            else (self._first_answer_s, self._num_answered)
        )
        return (count - 1) / max(self._answered_s[-1] - start_s, 1e-9)

    def camera_fps(self) -> float | None:
        """Images per second that the camera reached, by its own stamps where live; None before the second."""
        if len(self._camera_times) < 2:
            return None
        (first, start_ns), (last, end_ns) = self._camera_times
        return (last - first) * 1e9 / max(end_ns - start_ns, 1)

    def accounts(self) -> Accounts:
        """The counts of camera, node and monitor; call it when the graph has come to rest."""
        received = int(self.totals.get('received', 0))
        # A camera that was killed could not tell of its last image, which the node may have received.
        published = self.num_published if self.is_finished else max(self.num_published, received)
        return Accounts(
            published=published,
            received=received,
            answered=int(self.totals.get('processed', 0)),
            node_drops=node_drops(self.totals),
            pending=int(self.totals.get('pending', 0)),
            seen=self.num_processed,
        )

    def flush(self) -> None:
        """Complete answers whose image never came."""
        for answer in list(self._open.values()):
            self._finish(answer)

    def _on_matched(self, topic: str, info: QoSSubscriptionMatchedInfo) -> None:
        self._num_publishers[topic] = info.current_count

    def _on_camera(self, message: DiagnosticArray) -> None:
        self.last_news_s = time.monotonic()
        facts = diagnostic_values(message)
        self.num_published = max(self.num_published, int(facts['published']))
        if facts['state'] == FINISHED:
            self.is_finished = True
            self.camera_error = facts['error']
            return
        time_ns = stamp_to_ns(message.header.stamp) if self._is_live else time.monotonic_ns()
        self._camera_times[1:] = [(int(facts['published']), time_ns)]
        answer = self._part(message)
        answer.index = int(facts['index'])
        self._settle(answer)

    def _on_image(self, message: Image) -> None:
        self.last_news_s = time.monotonic()
        try:
            image_HW3 = to_frame(message).image_HW3
        except DffError:  # the node drops it for the same reason, and tells of it
            self.num_unreadable += 1
            return
        answer = self._part(message)
        answer.image_HW3 = image_HW3
        self._limit_images(image_HW3.nbytes)
        self._settle(answer)

    def _on_label_map(self, message: Image) -> None:
        label_map = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
        answer = self._timed_part(message)
        answer.label_map_HW = label_map
        self._settle(answer)

    def _on_detections(self, message: Detection2DArray) -> None:
        answer = self._timed_part(message)
        answer.detections = to_detections(message, self._box_class_names)
        self._settle(answer)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.last_news_s = time.monotonic()
        self.totals = diagnostic_values(message)
        if self.totals['state'] in (DROPPED, SKIPPED):
            return
        self._answered_s.append(self.last_news_s)
        self._num_answered += 1
        if self._first_answer_s is None:
            self._first_answer_s = self.last_news_s
        answer = self._part(message)
        answer.facts = self.totals
        self._settle(answer)

    def _timed_part(self, message: Image | Detection2DArray) -> Answer:
        """The answer that a task's message belongs to: the last one to come makes its latency."""
        now_ns = time.time_ns()
        self.last_news_s = time.monotonic()
        answer = self._part(message)
        answer.latency_ms = (now_ns - answer.stamp_ns) / 1e6
        return answer

    def _part(self, message: Image | Detection2DArray | DiagnosticArray) -> Answer:
        stamp_ns = stamp_to_ns(message.header.stamp)
        if stamp_ns not in self._open:
            self._open[stamp_ns] = Answer(stamp_ns)
            if len(self._open) > _MAX_OPEN:
                self._finish(next(iter(self._open.values())))
        return self._open[stamp_ns]

    def _limit_images(self, image_bytes: int) -> None:
        held = [answer for answer in self._open.values() if answer.image_HW3 is not None]
        if len(held) > max(_MIN_IMAGES, _MAX_IMAGE_BYTES // image_bytes):
            held[0].image_HW3 = None

    def _settle(self, answer: Answer) -> None:
        if not answer.is_answered or answer.index is None or answer.image_HW3 is None:
            return
        # Each topic is in order, so what an older frame still lacks will never come.
        for stamp_ns in sorted(stamp for stamp in self._open if stamp <= answer.stamp_ns):
            self._finish(self._open[stamp_ns])

    def _finish(self, answer: Answer) -> None:
        del self._open[answer.stamp_ns]
        facts = answer.facts
        if facts is None or not answer.is_answered:
            return  # an image without an answer: the node's counts say why
        if not self._is_live:
            answer.latency_ms = float(facts['latency_ms'] or 0.0)  # an idle frame has none
        self.statistics.add(
            is_key=facts['state'] == KEY,
            latency_ms=answer.latency_ms,
            age_frames=int(facts['age_frames']),
            stages_ms={stage: float(facts[f'{stage}_ms']) for stage in STAGES},
            reason=facts['reason'],
            reset_cause=facts['reset_cause'],
            num_boxes=None if answer.detections is None else len(answer.detections),
            is_idle=facts['state'] == IDLE,
            is_refreshed=facts['is_refreshed'] == 'true',
        )
        self._on_answer(answer)
