# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A simulated camera that plays prepared images at a rate, and notes when each was answered."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from dff_ros.cameras import NO_NAME, topic_of
from dff_ros.messages import NS_PER_S, stamp_to_ns
from dff_ros.ros.conversions import diagnostic_values
from dff_ros.ros.shots import BOXES, Shot

STATUS = 'dff/status'

_STAMP = struct.Struct('<iI')
_STAMP_AT = 4
"""Where a serialized message has the stamp of its header, after the four bytes that say how it is encoded."""

_OUTPUT_DEPTH, _STATUS_DEPTH = 30, 200
_GREETING_S, _TURN_S = 0.5, 1.0


class Player:
    """Publishes serialized images on a camera's `image`, each with the stamp of now; `listen` says which
    outputs make an answer.

    Messages are neither built nor read where a rate is measured: that would take the node's time. `node` is
    spun on a thread of its own. `has_status`: the node tells what became of each image on `dff/status`.
    """

    def __init__(
        self, node: Node, images: Sequence[bytes], camera: str = NO_NAME, *, has_status: bool = True
    ) -> None:
        self.shots: list[Shot] = []
        self.camera = camera
        self._node = node
        self._images = images
        self._has_status = has_status
        self._number = 0
        self._by_stamp: dict[int, Shot] = {}
        self._news = threading.Condition()
        self._listening: dict[str, Subscription] = {}
        self._publisher = node.create_publisher(Image, topic_of(camera, 'image'), 1)
        self._status: Subscription | None = None
        if has_status:
            profile = QoSProfile(depth=_STATUS_DEPTH)
            topic = topic_of(camera, STATUS)
            self._status = node.create_subscription(DiagnosticArray, topic, self._take_status, profile)

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is listened to."""
        return tuple(self._listening)

    @property
    def is_found(self) -> bool:
        """The node takes images, and all its outputs that are listened to are there."""
        readers = [*self._listening.values(), *([self._status] if self._status else [])]
        is_heard = all(reader.get_publisher_count() for reader in readers)
        return is_heard and self._publisher.get_subscription_count() > 0

    def listen(self, outputs: Sequence[str]) -> None:
        """Subscribe to these outputs and no other."""
        for output in set(self._listening) - set(outputs):
            self._node.destroy_subscription(self._listening.pop(output))
        for output in outputs:
            if output not in self._listening:
                kind = Detection2DArray if output == BOXES else Image
                self._listening[output] = self._node.create_subscription(
                    kind,
                    topic_of(self.camera, output),
                    partial(self._take_output, output),
                    QoSProfile(depth=_OUTPUT_DEPTH),
                    raw=True,
                )

    def begin(self) -> None:
        """Forget what was sent; what is still told of it is not heard."""
        with self._news:
            self.shots = []
            self._by_stamp = {}

    def publish(self, due_s: float) -> Shot:
        """Send the next image, which was due then (`time.perf_counter`). They run forward and backward, so
        none is a cut.
        """
        turn = 2 * (len(self._images) - 1) or 1
        place = min(self._number % turn, turn - self._number % turn) if len(self._images) > 1 else 0
        self._number += 1
        data = bytearray(self._images[place])
        stamp_ns = time.time_ns()
        _STAMP.pack_into(data, _STAMP_AT, *divmod(stamp_ns, NS_PER_S))
        message = bytes(data)
        with self._news:
            is_alone = not self.shots or self._is_settled(self.shots[-1])
            shot = Shot(stamp_ns, due_s, time.perf_counter(), is_alone, self.outputs)
            self.shots.append(shot)
            self._by_stamp[stamp_ns] = shot
        self._publisher.publish(message)
        return shot

    def greet(self, check: Callable[[], None], timeout_s: float = 60.0) -> None:
        """Send images until one is answered in full: those that come before node and camera know each other
        both ways are lost. TimeoutError where none is in time.
        """
        self.begin()
        end_s = time.perf_counter() + timeout_s
        while not any(shot.is_complete and shot.answers_s for shot in self.shots):
            check()
            if time.perf_counter() > end_s:
                raise TimeoutError(f'no image was answered in {timeout_s:g} s')
            self._wait(self.publish(time.perf_counter()), _GREETING_S)
        self._wait(self.shots[-1], timeout_s)

    def play(
        self, rate_hz: float, num_images: int, check: Callable[[], None], settle_s: float = 5.0
    ) -> list[Shot]:
        """Send so many at a rate and wait for the last to be settled, for `settle_s` at most; what became of
        them. `check` is called at each.
        """
        self.begin()
        start_s = time.perf_counter()
        for tick in range(num_images):
            due_s = start_s + tick / rate_hz
            time.sleep(max(0.0, due_s - time.perf_counter()))
            self.publish(due_s)
            check()
        self._wait(self.shots[-1], settle_s)
        return self.shots

    def ask(self, num_images: int, check: Callable[[], None], timeout_s: float = 60.0) -> list[Shot]:
        """Send so many, each as soon as the one before is settled; what became of them. TimeoutError where
        one is not in time.
        """
        self.begin()
        for _ in range(num_images):
            shot = self.publish(time.perf_counter())
            check()
            while not self._wait(shot, min(timeout_s, _TURN_S)):
                check()
                if time.perf_counter() > shot.sent_s + timeout_s:
                    raise TimeoutError(f'an image was not answered in {timeout_s:g} s')
        return self.shots

    def _wait(self, shot: Shot, timeout_s: float) -> bool:
        """Whether it was settled in time: answered, or told as dropped."""
        with self._news:
            return self._news.wait_for(lambda: self._is_settled(shot), timeout_s)

    def _is_settled(self, shot: Shot) -> bool:
        return shot.is_complete and (bool(shot.facts) or not self._has_status)

    def _take_output(self, output: str, message: bytes) -> None:
        now_s = time.perf_counter()
        sec, nanosec = _STAMP.unpack_from(message, _STAMP_AT)
        with self._news:
            shot = self._by_stamp.get(sec * NS_PER_S + nanosec)
            if shot is not None:
                shot.answers_s[output] = now_s
                self._news.notify_all()

    def _take_status(self, message: DiagnosticArray) -> None:
        now_s = time.perf_counter()
        facts = diagnostic_values(message)
        with self._news:
            shot = self._by_stamp.get(stamp_to_ns(message.header.stamp))
            if shot is not None:
                shot.facts, shot.told_s = facts, now_s
                self._news.notify_all()
