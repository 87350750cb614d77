"""Follows camera and node from outside: pairs what belongs to one frame by its stamp, keeps the figures."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.event_handler import QoSSubscriptionMatchedInfo, SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from dff_ros.errors import DffError
from dff_ros.report import STAGES, FrameStatistics
from dff_ros.ros.accounts import Accounts, node_drops
from dff_ros.ros.camera import FINISHED
from dff_ros.ros.conversions import diagnostic_values, stamp_to_ns, to_frame
from dff_ros.ros.status import DROPPED, KEY

_DEPTH = 200
_MAX_OPEN = 4096
_MAX_IMAGE_BYTES = 128 << 20
_MIN_IMAGES = 16
_FPS_WINDOW = 60


@dataclass(slots=True)
class Answer:
    """One published frame, as far as its parts have come: `index` is its number in the source.

    `image_HW3` stays None where the image did not reach the monitor, or had to be given up for memory.
    """

    stamp_ns: int
    index: int | None = None
    image_HW3: NDArray[np.uint8] | None = None
    label_map_HW: NDArray[np.uint8] | None = None
    facts: Mapping[str, str] | None = None
    latency_ms: float = 0.0

    @property
    def is_answered(self) -> bool:
        """Label map and status have come."""
        return self.label_map_HW is not None and self.facts is not None


class Monitor(Node):
    """Subscribes to camera and node; calls `on_answer` once for each answered frame, in order of completion.

    Latency runs from the image's stamp to the receipt of its label map where `is_live` (stamps are
    wall-clock), else it is the node's own, from the receipt of the image to the published label map.
    """

    def __init__(self, on_answer: Callable[[Answer], None], *, is_live: bool, **options: Any) -> None:
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
        self._open: OrderedDict[int, Answer] = OrderedDict()
        self._answered_s: deque[float] = deque(maxlen=_FPS_WINDOW)
        self._first_answer_s: float | None = None
        self._num_label_maps = 0
        self._camera_times: list[tuple[int, int]] = []
        self._num_publishers: dict[str, int] = {}
        for kind, topic, callback, reliability in (
            (Image, 'image', self._on_image, ReliabilityPolicy.BEST_EFFORT),
            (Image, 'dff/segmentation', self._on_label_map, ReliabilityPolicy.RELIABLE),
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
        """Frames whose label map and status have come."""
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
            else (self._first_answer_s, self._num_label_maps)
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
        now_ns = time.time_ns()
        self.last_news_s = time.monotonic()
        answer = self._part(message)
        answer.label_map_HW = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)
        answer.latency_ms = (now_ns - answer.stamp_ns) / 1e6
        self._answered_s.append(self.last_news_s)
        self._num_label_maps += 1
        if self._first_answer_s is None:
            self._first_answer_s = self.last_news_s
        self._settle(answer)

    def _on_status(self, message: DiagnosticArray) -> None:
        self.last_news_s = time.monotonic()
        self.totals = diagnostic_values(message)
        if self.totals['state'] == DROPPED:
            return
        answer = self._part(message)
        answer.facts = self.totals
        self._settle(answer)

    def _part(self, message: Image | DiagnosticArray) -> Answer:
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
        if answer.facts is None or answer.label_map_HW is None:
            return  # an image without an answer: the node's counts say why
        facts = answer.facts
        if not self._is_live:
            answer.latency_ms = float(facts['latency_ms'])
        self.statistics.add(
            is_key=facts['state'] == KEY,
            latency_ms=answer.latency_ms,
            age_frames=int(facts['age_frames']),
            stages_ms={stage: float(facts[f'{stage}_ms']) for stage in STAGES},
            reset_cause=facts['reset_cause'],
        )
        self._on_answer(answer)
