# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Where the answers to recorded images go: into a bag, as the node would publish them. Needs rosbags."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Connection, MessageDefinitionFormat

from dff_ros import bag_messages, frame_facts
from dff_ros.bag_messages import CAMERA_INFO, DETECTIONS, IMAGE, LABEL_INFO, STATUS, quality, typestore
from dff_ros.bag_parts import Topic
from dff_ros.camera_info import Intrinsics
from dff_ros.cameras import topic_of
from dff_ros.frame_facts import DROPPED, FrameFacts
from dff_ros.messages import node_name
from dff_ros.model_spec import ModelSpec
from dff_ros.tasks import DETECTION, SEGMENTATION
from dff_ros.types import Detections, Frame, Segmentation, StepResult

if TYPE_CHECKING:
    from dff_ros.overlay import Overlay

LABEL_MAP_TOPIC, BOX_TOPIC = 'dff/segmentation', 'dff/detections'
OUTPUTS = {
    LABEL_MAP_TOPIC: (IMAGE, quality(5, is_latched=False)),
    'dff/confidence': (IMAGE, quality(5, is_latched=False)),
    'dff/label_info': (LABEL_INFO, quality(1, is_latched=True)),
    'dff/camera_info': (CAMERA_INFO, quality(5, is_latched=False)),
    BOX_TOPIC: (DETECTIONS, quality(5, is_latched=False)),
    'dff/overlay': (IMAGE, quality(5, is_latched=False)),
    'dff/status': (STATUS, quality(30, is_latched=True)),
}
"""Types and quality of service of the outputs: those of the node."""

_UNKNOWN_DIGEST = 'RIHS01_' + 64 * '0'


def output_names(spec: ModelSpec, *, overlay: bool, confidence: bool = True) -> list[str]:
    """The topics that a model's answers need, relative to a camera."""
    wanted = {'dff/status'}
    if SEGMENTATION in spec.tasks:
        wanted |= {LABEL_MAP_TOPIC, 'dff/label_info', 'dff/camera_info'}
        wanted |= {'dff/confidence'} if confidence else set()
    if DETECTION in spec.tasks:
        wanted.add(BOX_TOPIC)
    if overlay:
        wanted.add('dff/overlay')
    return [name for name in OUTPUTS if name in wanted]


def output_topic(camera: str, name: str) -> Topic:
    """An output as a connection of the bag."""
    kind, offered = OUTPUTS[name]
    definition, _ = typestore().generate_msgdef(kind, ros_version=2)
    return Topic(f'/{topic_of(camera, name)}', kind, definition, typestore().hash_rihs01(kind), [offered])


def copied_topic(connection: Connection) -> Topic:
    """A connection of the input; what an old recording does not tell of a known type is added."""
    definition, digest = connection.msgdef.data, connection.digest
    is_known = connection.msgtype in typestore().types
    if connection.msgdef.format == MessageDefinitionFormat.NONE:
        definition = typestore().generate_msgdef(connection.msgtype, ros_version=2)[0] if is_known else ''
    if not digest:
        digest = typestore().hash_rihs01(connection.msgtype) if is_known else _UNKNOWN_DIGEST
    extension: Any = connection.ext
    return Topic(
        connection.topic,
        connection.msgtype,
        definition,
        digest,
        extension.offered_qos_profiles,
        extension.serialization_format,
    )


def _open_painter(spec: ModelSpec) -> Overlay:
    from dff_ros.overlay import Overlay  # it needs OpenCV, all else here does not

    return Overlay(spec)


class BagOutlet:
    """Takes the answers of one camera (`pipeline.Outlet`): `write(name, message)` puts one into the bag at
    the time of the image; None in a replay, when nothing is written.
    """

    def __init__(self, camera: str, spec: ModelSpec, *, overlay: bool) -> None:
        self.write: Callable[[str, Any], None] | None = None
        self.num_keys = 0
        self._name = node_name(camera)
        self._spec = spec
        self._painter = _open_painter(spec) if overlay else None

    def label_info(self, time_ns: int) -> None:
        """The names of the classes, once, at the beginning."""
        if self.write is not None and SEGMENTATION in self._spec.tasks:
            self.write('dff/label_info', bag_messages.label_info(self._spec.class_names, time_ns))

    def unread_tasks(self) -> tuple[str, ...]:
        """None: a recording keeps all."""
        return ()

    def publish_segmentation(self, header: Any, answer: Segmentation) -> None:
        """See Outlet."""
        if self.write is not None:
            self.write(LABEL_MAP_TOPIC, bag_messages.image(header, answer.label_map_HW))
            if answer.confidence_HW is not None:
                self.write('dff/confidence', bag_messages.image(header, answer.confidence_HW))

    def publish_camera_info(self, header: Any, info: Any, found: Intrinsics) -> None:
        """See Outlet."""
        if self.write is not None:
            self.write('dff/camera_info', bag_messages.camera_info(header, info, found))

    def publish_detections(self, header: Any, found: Detections) -> None:
        """See Outlet."""
        if self.write is not None:
            self.write(BOX_TOPIC, bag_messages.detections(header, found, self._spec.box_class_names))

    def publish_overlay(self, header: Any, frame: Frame, result: StepResult, alpha: float) -> None:
        """See Outlet."""
        if self.write is None or self._painter is None:
            return
        self._painter.alpha = alpha
        self.write('dff/overlay', bag_messages.image(header, self._painter.picture(frame.image_HW3, result)))

    def publish_status(self, header: Any, facts: FrameFacts) -> None:
        """See Outlet."""
        self.num_keys += facts.state == frame_facts.KEY
        if self.write is not None:
            is_fault = facts.state == DROPPED
            self.write(
                'dff/status', bag_messages.status(header, self._name, facts.state, is_fault, facts.values())
            )
