# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What the node has of one camera: its subscription, its publishers and its pipeline."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dff_ros.cameras import topic_of
from dff_ros.config import TRANSPORTS, DffConfig, Parameter
from dff_ros.health import Level, Limits, judge
from dff_ros.mailbox import Mailbox
from dff_ros.pipeline import Pipeline, Received
from dff_ros.ros import qos
from dff_ros.ros.camera_infos import camera_info_topic
from dff_ros.ros.diagnostics import Report, camera_figures, camera_report
from dff_ros.ros.endpoints import Endpoints
from dff_ros.ros.image_input import image_input, image_topic
from dff_ros.ros.launching import PROFILES_VARIABLE, SHARED_MEMORY_PROFILE
from dff_ros.ros.publishers import Publishers
from dff_ros.ros.receiving import NoExecutor, Receiver, image_of

_TRANSPORT = (
    f'large images need shared memory: set {PROFILES_VARIABLE} to {SHARED_MEMORY_PROFILE} for the camera '
    'too, as in dff.launch.py'
)


def qos_parameters(node: Node, camera: str) -> list[Parameter]:
    """The parameters by which users override the quality of service of a camera's topics."""
    info = camera_info_topic(node, camera)
    found = qos.override_parameters(node, 'subscription', info, qos.sensor_input())
    for transport in TRANSPORTS:
        topic = image_topic(node, camera, transport)
        found += qos.override_parameters(node, 'subscription', topic, qos.newest_image())
    for topic, profile in Publishers.PROFILES.items():
        found += qos.override_parameters(node, 'publisher', topic_of(camera, topic), profile())
    return found


class CameraTopics:
    """Publishes from the start, subscribes while active. A message is only stored, in the mailbox."""

    def __init__(
        self,
        node: Node,
        camera: str,
        mailbox: Mailbox[Received],
        transport: str,
        endpoints: Endpoints | None = None,
    ) -> None:
        self._node = node
        self._camera = camera
        self._mailbox = mailbox
        self._endpoints = endpoints or Endpoints(node)
        self._input = image_input(node, camera, transport)
        self._subscriptions: list[Subscription] = []
        self._receiver: Receiver | None = None
        self.publishers = Publishers(node, camera, self._endpoints)
        self.pipeline = Pipeline(
            camera, mailbox, self.publishers, node.get_logger(), lambda: node.get_clock().now().nanoseconds
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs, and the outputs that are there."""
        inputs = self._input.topic, camera_info_topic(self._node, self._camera)
        return (*inputs, *self.publishers.topics)

    def subscribe(self) -> None:
        """Take images and their calibration from now on."""
        self.watch()
        info = camera_info_topic(self._node, self._camera)
        self._subscribe(CameraInfo, info, self.pipeline.camera_infos.store, qos.sensor_input())
        count_lost = functools.partial(self.pipeline.count_lost, remedy=_TRANSPORT)
        images = self._subscribe(
            self._input.kind,
            self._input.topic,
            self._store,
            qos.newest_image(),
            on_lost=count_lost,
            raw=self._input.kind is Image,
            callback_group=NoExecutor(),
        )
        self._receiver = Receiver(self._node, images, self._store)

    def unsubscribe(self) -> None:
        """Take no more. Harmless where it was not subscribed."""
        if self._receiver is not None:
            self._receiver.end()
            self._receiver = None
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def watch(self) -> None:
        """Images are due from now on: what `report` judges begins anew."""
        self.pipeline.health.begin(self._mailbox.counts(self._camera))

    def report(self, config: DffConfig, quiet: str = '') -> Report:
        """How the camera is doing; `quiet` says why no images are due, if so."""
        counts = self._mailbox.counts(self._camera)
        topic, *others = map(self._node.resolve_topic_name, self.names)
        num_mismatches = sum(self._endpoints.mismatches[name] for name in (topic, *others))
        values = self.pipeline.counted(counts) | {'qos_mismatches': num_mismatches}
        figures = self.pipeline.health.figures(counts)
        if quiet:
            return camera_report(self._camera, topic, (Level.OK, quiet), values)
        limits = Limits.of(config.diagnostics, config.budget_ms, figures.rate_in_hz)
        values = camera_figures(figures, limits) | values
        return camera_report(self._camera, topic, judge(figures, limits), values)

    def destroy(self) -> None:
        """Take all topics down."""
        self.unsubscribe()
        self.publishers.destroy()

    def _subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        profile: QoSProfile,
        **options: Any,
    ) -> Subscription:
        """Each is remembered at once: the next one may fail."""
        subscription = self._endpoints.subscription(kind, topic, callback, profile, **options)
        self._subscriptions.append(subscription)
        return subscription

    def _store(self, message: bytes | CompressedImage) -> None:
        received_ns = time.perf_counter_ns()
        self.pipeline.health.arrived()
        image = image_of(message) if isinstance(message, bytes) else message
        self._mailbox.put(Received(image, received_ns), self._camera)
