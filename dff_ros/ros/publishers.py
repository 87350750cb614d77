"""The node's output topics and the messages that are reused on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo

from dff_ros.draw import blend, mark_key
from dff_ros.model_spec import ModelSpec
from dff_ros.ros import qos, status
from dff_ros.ros.conversions import fill_image, to_diagnostics, to_label_info
from dff_ros.types import Frame, StepResult


class Publishers:
    """Publishes with the header of the image it is given. Use from one thread at a time."""

    PROFILES: ClassVar[Mapping[str, Callable[[], QoSProfile]]] = {
        'dff/segmentation': qos.image_output,
        'dff/label_info': qos.latched,
        'dff/overlay': qos.image_output,
        'dff/status': qos.status_output,
    }
    TOPICS: ClassVar[tuple[str, ...]] = tuple(PROFILES)

    def __init__(self, node: Node) -> None:
        self._node = node
        self._advertised: list[Publisher] = []
        try:
            self._segmentation = self._advertise(Image, 'dff/segmentation')
            self._label_info = self._advertise(LabelInfo, 'dff/label_info')
            self._overlay = self._advertise(Image, 'dff/overlay')
            self._status = self._advertise(DiagnosticArray, 'dff/status')
        except Exception:
            self.destroy()
            raise
        self._segmentation_message = Image()
        self._overlay_message = Image()

    def _advertise(self, kind: type, topic: str) -> Publisher:
        profile = self.PROFILES[topic]()
        publisher = self._node.create_publisher(
            kind, topic, profile, qos_overriding_options=qos.overridable()
        )
        self._advertised.append(publisher)
        return publisher

    def publish_label_info(self, class_names: Sequence[str], stamp: Time) -> None:
        """Latch the class names; consumers read them once."""
        self._label_info.publish(to_label_info(class_names, stamp))

    def publish_segmentation(self, header: Header, label_map_HW: NDArray[np.uint8]) -> None:
        """The label map as mono8 class ids."""
        self._segmentation.publish(fill_image(self._segmentation_message, header, label_map_HW))

    def publish_overlay(
        self, header: Header, frame: Frame, result: StepResult, spec: ModelSpec, alpha: float
    ) -> None:
        """The image under the class colours, drawn only while someone listens."""
        if self._overlay.get_subscription_count() == 0:
            return
        colours_N3 = np.array(spec.class_colours, np.uint8)
        picture = blend(frame.image_HW3, result.segmentation.label_map_HW, colours_N3, alpha)
        if result.is_key:
            mark_key(picture)
        self._overlay.publish(fill_image(self._overlay_message, header, picture))

    def publish_status(self, header: Header, facts: Mapping[str, object]) -> None:
        """The facts of one frame, stamped like its label map."""
        state = str(facts['state'])
        self._status.publish(to_diagnostics(header, 'dff_node', state, state == status.DROPPED, facts))

    def destroy(self) -> None:
        """Take the topics down."""
        for publisher in self._advertised:
            self._node.destroy_publisher(publisher)
