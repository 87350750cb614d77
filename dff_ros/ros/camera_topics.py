"""What the node has of one camera: its subscription, its publishers and its pipeline."""

from __future__ import annotations

import time

from rclpy.event_handler import QoSMessageLostInfo, SubscriptionEventCallbacks, UnsupportedEventTypeError
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dff_ros.config import TRANSPORTS, Parameter
from dff_ros.ros import qos
from dff_ros.ros.camera_infos import camera_info_topic
from dff_ros.ros.cameras import topic_of
from dff_ros.ros.image_input import image_input, image_topic
from dff_ros.ros.mailbox import Mailbox
from dff_ros.ros.pipeline import Pipeline, Received
from dff_ros.ros.publishers import Publishers


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

    def __init__(self, node: Node, camera: str, mailbox: Mailbox[Received], transport: str) -> None:
        self._node = node
        self._camera = camera
        self._mailbox = mailbox
        self._input = image_input(node, camera, transport)
        self._subscriptions: list[Subscription] = []
        self.publishers = Publishers(node, camera)
        self.pipeline = Pipeline(camera, mailbox, self.publishers, node.get_logger())

    @property
    def names(self) -> tuple[str, ...]:
        """The inputs, and the outputs that are there."""
        inputs = self._input.topic, camera_info_topic(self._node, self._camera)
        return (*inputs, *self.publishers.topics)

    def subscribe(self) -> None:
        """Take images and their calibration from now on."""
        self._subscriptions.append(self._subscribe_info())
        events = SubscriptionEventCallbacks(message_lost=self._count_lost)
        self._subscriptions.append(self._subscribe(events))

    def unsubscribe(self) -> None:
        """Take no more. Harmless where it was not subscribed."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def destroy(self) -> None:
        """Take all topics down."""
        self.unsubscribe()
        self.publishers.destroy()

    def _subscribe_info(self) -> Subscription:
        return self._node.create_subscription(
            CameraInfo,
            camera_info_topic(self._node, self._camera),
            self.pipeline.camera_infos.store,
            qos.sensor_input(),
            qos_overriding_options=qos.overridable(),
        )

    def _subscribe(self, events: SubscriptionEventCallbacks) -> Subscription:
        try:
            return self._node.create_subscription(
                self._input.kind,
                self._input.topic,
                self._store,
                qos.newest_image(),
                event_callbacks=events,
                qos_overriding_options=qos.overridable(),
            )
        except UnsupportedEventTypeError:  # this middleware does not tell of lost messages
            return self._subscribe(SubscriptionEventCallbacks())

    def _store(self, message: Image | CompressedImage) -> None:
        self._mailbox.put(Received(message, time.perf_counter_ns()), self._camera)

    def _count_lost(self, event: QoSMessageLostInfo) -> None:
        self.pipeline.count_lost(event.total_count_change)
