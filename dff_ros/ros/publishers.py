# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The output topics of one camera and the messages that are reused on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from dff_ros.camera_info import Intrinsics
from dff_ros.cameras import NO_NAME, topic_of
from dff_ros.compressed import require_opencv
from dff_ros.errors import BackendUnavailableError
from dff_ros.frame_facts import DROPPED, FrameFacts
from dff_ros.messages import node_name
from dff_ros.model_spec import ModelSpec
from dff_ros.ros import frame_status, qos
from dff_ros.ros.camera_infos import to_camera_info
from dff_ros.ros.conversions import fill_image, to_detection_array, to_diagnostics, to_label_info
from dff_ros.ros.endpoints import Endpoints, is_read
from dff_ros.tasks import DETECTION, SEGMENTATION
from dff_ros.types import Detections, Frame, Segmentation, StepResult

if TYPE_CHECKING:  # it needs OpenCV, all else here does not
    from dff_ros.overlay import Overlay

TASK_TOPICS = {SEGMENTATION: 'dff/segmentation', DETECTION: 'dff/detections'}
"""Where the answers of each task are published."""

READ_ON = {
    SEGMENTATION: (TASK_TOPICS[SEGMENTATION], 'dff/confidence', 'dff/camera_info', 'dff/overlay'),
    DETECTION: (TASK_TOPICS[DETECTION], 'dff/overlay'),
}
"""The topics on which the answers of each task are read."""


class Publishers:
    """Publishes what a camera's images are answered with, by the header of the image it is given. Use from
    one thread at a time.

    The topics of a task are there once `open_tasks` has told that the model has it.
    """

    PROFILES: ClassVar[Mapping[str, Callable[[], QoSProfile]]] = {
        TASK_TOPICS[SEGMENTATION]: qos.image_output,
        'dff/confidence': qos.image_output,
        'dff/label_info': qos.latched,
        'dff/camera_info': qos.image_output,
        TASK_TOPICS[DETECTION]: qos.image_output,
        'dff/overlay': qos.image_output,
        'dff/status': qos.status_output,
        'dff/frame_status': qos.status_output,
    }

    def __init__(self, node: Node, camera: str = NO_NAME, endpoints: Endpoints | None = None) -> None:
        self._node = node
        self._endpoints = endpoints or Endpoints(node)
        self._camera = camera
        self._name = node_name(camera)
        self._advertised: dict[str, Publisher] = {}
        try:
            self._overlay = self._advertise(Image, 'dff/overlay')
            self._status = self._advertise(DiagnosticArray, 'dff/status')
            if frame_status.OUTDATED:
                node.get_logger().warning(frame_status.OUTDATED)
            kind = frame_status.FrameStatus
            self._frame_status = None if kind is None else self._advertise(kind, 'dff/frame_status')
        except Exception:
            self.destroy()
            raise
        self._segmentation_message, self._confidence_message = Image(), Image()
        self._overlay_message = Image()

    @property
    def topics(self) -> tuple[str, ...]:
        """Those that are there."""
        return tuple(topic_of(self._camera, topic) for topic in self.PROFILES if topic in self._advertised)

    def open_tasks(self, spec: ModelSpec, stamp: Time) -> None:
        """Add the topics of the model's tasks, and latch the names of its label map's classes."""
        self._spec = spec
        self._painter = self._open_painter(spec)
        if SEGMENTATION in spec.tasks:
            self._segmentation = self._advertise(Image, TASK_TOPICS[SEGMENTATION])
            self._confidence = self._advertise(Image, 'dff/confidence')
            self._camera_info = self._advertise(CameraInfo, 'dff/camera_info')
            self._label_info = self._advertise(LabelInfo, 'dff/label_info')
            self._label_info.publish(to_label_info(spec.class_names, stamp))
        if DETECTION in spec.tasks:
            self._detections = self._advertise(Detection2DArray, TASK_TOPICS[DETECTION])

    def _open_painter(self, spec: ModelSpec) -> Overlay | None:
        """None where OpenCV is missing or of another NumPy, which is logged."""
        try:
            require_opencv('dff/overlay stays empty, it needs')
        except BackendUnavailableError as error:
            self._node.get_logger().warning(str(error))
            return None
        from dff_ros.overlay import Overlay

        return Overlay(spec)

    def _advertise(self, kind: type, topic: str) -> Publisher:
        profile = self.PROFILES[topic]()
        publisher = self._endpoints.publisher(kind, topic_of(self._camera, topic), profile)
        self._advertised[topic] = publisher
        return publisher

    def unread_tasks(self) -> list[str]:
        """Tasks on whose topics nobody listens."""
        return [task for task, topics in READ_ON.items() if not any(map(self._is_read, topics))]

    def _is_read(self, topic: str) -> bool:
        publisher = self._advertised.get(topic)
        return publisher is not None and is_read(publisher)

    def publish_segmentation(self, header: Header, answer: Segmentation) -> None:
        """The label map as mono8 class ids, and its confidence as mono8; each while someone listens."""
        if self._is_read(TASK_TOPICS[SEGMENTATION]):
            self._segmentation.publish(fill_image(self._segmentation_message, header, answer.label_map_HW))
        if answer.confidence_HW is not None and self._is_read('dff/confidence'):
            self._confidence.publish(fill_image(self._confidence_message, header, answer.confidence_HW))

    def publish_camera_info(self, header: Header, info: CameraInfo, found: Intrinsics) -> None:
        """The calibration of the label map with this header, while someone listens."""
        if self._is_read('dff/camera_info'):
            self._camera_info.publish(to_camera_info(header, info, found))

    def publish_detections(self, header: Header, found: Detections) -> None:
        """The boxes, in pixels of the image with this header, while someone listens; an empty array where
        there are none.
        """
        if self._is_read(TASK_TOPICS[DETECTION]):
            self._detections.publish(to_detection_array(header, found, self._spec.box_class_names))

    def publish_overlay(self, header: Header, frame: Frame, result: StepResult, alpha: float) -> None:
        """The image under class colours and boxes, drawn only while someone listens."""
        if self._painter is None or not self._is_read('dff/overlay'):
            return
        self._painter.alpha = alpha
        picture = self._painter.picture(frame.image_HW3, result)
        self._overlay.publish(fill_image(self._overlay_message, header, picture))

    def publish_status(self, header: Header, facts: FrameFacts) -> None:
        """The facts of one frame, stamped like its outputs."""
        is_fault = facts.state == DROPPED
        self._status.publish(to_diagnostics(header, self._name, facts.state, is_fault, facts.values()))
        if self._frame_status is not None:
            self._frame_status.publish(frame_status.to_frame_status(header, facts))

    def destroy(self) -> None:
        """Take the topics down."""
        for publisher in self._advertised.values():
            self._node.destroy_publisher(publisher)
