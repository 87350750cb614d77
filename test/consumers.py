# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What nodes that read the outputs do with them: subscribe as they do, pair by stamps as they do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from fake_backend import FakeBackend
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_helpers import TIMEOUT_S
from sensor_msgs.msg import Image

from dff_ros.messages import stamp_to_ns
from dff_ros.types import Propagation, Segmentation

ROAD, CAR, UNKNOWN = 0, 1, 255
ROAD_CONFIDENCE, CAR_CONFIDENCE = 240, 180


class SceneBackend(FakeBackend):
    """Road on the left third, then a car; of a propagated frame the right half was warped from outside."""

    def propagate(self, image_HW3: NDArray[np.uint8], key: Any) -> Propagation[int]:
        validity_hw = np.array([[1, 1, 0], [1, 1, 0]], np.float32)
        return Propagation(key.feature, validity_hw, motion_px=4.0, coverage=float(validity_hw.mean()))

    def predict(
        self, feature: int, source_size: tuple[int, int], output_size: tuple[int, int]
    ) -> Segmentation:
        is_car = np.zeros(output_size, bool)
        is_car[:, output_size[1] // 3 :] = True
        confidence = np.where(is_car, CAR_CONFIDENCE, ROAD_CONFIDENCE)
        return Segmentation(is_car.astype(np.uint8), confidence.astype(np.uint8))


class Consumer(Node):
    """Subscribes like another node, and keeps what came. `news` tells of it."""

    def __init__(self, context: Context, name: str) -> None:
        super().__init__(name, context=context)
        self.news = threading.Condition()

    def listen(
        self, kind: type, topic: str, profile: QoSProfile, callback: Callable[[Any], None] | None = None
    ) -> list[Any]:
        """The messages of a topic, in order of arrival, once `callback` has seen them."""
        found: list[Any] = []

        def store(message: object) -> None:
            with self.news:
                if callback is not None:
                    callback(message)
                found.append(message)
                self.news.notify_all()

        self.create_subscription(kind, topic, store, profile)
        return found

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Until a message makes the condition true."""
        with self.news:
            assert self.news.wait_for(condition, TIMEOUT_S), f'timed out waiting for {what}'


class ExactTime:
    """message_filters' policy of that name: a set is complete when each topic has a message of one stamp.

    What is older than a complete set is dropped, and the oldest one where more than `queue_size` wait
    (message_filters/sync_policies/exact_time.h).
    """

    def __init__(self, num_topics: int, queue_size: int, callback: Callable[..., None]) -> None:
        self._num_topics = num_topics
        self._queue_size = queue_size
        self._callback = callback
        self._waiting: dict[int, dict[int, Any]] = {}
        self.dropped: list[int] = []

    def add(self, index: int) -> Callable[[Any], None]:
        """The callback of a topic."""

        def store(message: Any) -> None:
            stamp_ns = stamp_to_ns(message.header.stamp)
            found = self._waiting.setdefault(stamp_ns, {})
            found[index] = message
            if len(found) == self._num_topics:
                self._drop_older(stamp_ns)
                del self._waiting[stamp_ns]
                self._callback(*(found[number] for number in range(self._num_topics)))
            while len(self._waiting) > self._queue_size:
                self._drop_older(min(self._waiting) + 1)

        return store

    def _drop_older(self, stamp_ns: int) -> None:
        for old in [stamp for stamp in self._waiting if stamp < stamp_ns]:
            self.dropped.append(old)
            del self._waiting[old]


def sensor_data(depth: int = 5) -> QoSProfile:
    """rclcpp's SensorDataQoS: best effort, volatile."""
    return QoSProfile(depth=depth, reliability=ReliabilityPolicy.BEST_EFFORT)


def latched(depth: int = 1) -> QoSProfile:
    """Reliable and transient local."""
    return QoSProfile(
        depth=depth, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
    )


def pixels(message: Image) -> NDArray[np.uint8]:
    """(H, W, channels) of the bytes of an image, by width and height alone."""
    channels = {'mono8': 1, 'rgb8': 3}[message.encoding]
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, channels)
