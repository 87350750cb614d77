# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The messages that are written into bags, and what the engine's answers become in them. Needs rosbags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dff_ros.camera_info import Intrinsics
from dff_ros.messages import NS_PER_S, boxes_of, value_text
from dff_ros.types import Detections

IMAGE, COMPRESSED, CAMERA_INFO = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/CameraInfo',
)
LABEL_INFO, DETECTIONS, STATUS = (
    'vision_msgs/msg/LabelInfo',
    'vision_msgs/msg/Detection2DArray',
    'diagnostic_msgs/msg/DiagnosticArray',
)
_OK, _WARN = 0, 1

VISION_MSGS = {
    'Point2D': 'float64 x\nfloat64 y\n',
    'Pose2D': 'vision_msgs/Point2D position\nfloat64 theta\n',
    'BoundingBox2D': 'vision_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y\n',
    'ObjectHypothesis': 'string class_id\nfloat64 score\n',
    'ObjectHypothesisWithPose': 'ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n',
    'Detection2D': (
        'std_msgs/Header header\nObjectHypothesisWithPose[] results\nBoundingBox2D bbox\nstring id\n'
    ),
    'Detection2DArray': 'std_msgs/Header header\nDetection2D[] detections\n',
    'VisionClass': 'uint16 class_id\nstring class_name\n',
    'LabelInfo': 'std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n',
}
"""The fields of vision_msgs 4.1.1, which rosbags does not know."""


@cache
def typestore() -> Typestore:
    """The types of ROS 2 Jazzy and vision_msgs."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, fields in VISION_MSGS.items():
        store.register(get_types_from_msg(fields, f'vision_msgs/msg/{name}'))
    return store


def quality(depth: int, *, is_latched: bool) -> Qos:
    """Reliable, as the node offers its outputs."""
    never = QosTime(9_223_372_036, 854_775_807)
    durability = QosDurability.TRANSIENT_LOCAL if is_latched else QosDurability.VOLATILE
    return Qos(
        QosHistory.KEEP_LAST, depth, QosReliability.RELIABLE, durability, never, never,
        QosLiveliness.AUTOMATIC, never, False,
    )  # fmt: skip


def image(header: Any, pixels: NDArray[np.uint8]) -> Any:
    """uint8 (H, W) as mono8, or (H, W, 3) as rgb8; rows are not padded."""
    height, width = pixels.shape[:2]
    is_grey = pixels.ndim == 2
    return _make(
        IMAGE,
        header=header,
        height=height,
        width=width,
        encoding='mono8' if is_grey else 'rgb8',
        is_bigendian=0,
        step=width * (1 if is_grey else 3),
        data=np.ascontiguousarray(pixels).reshape(-1),
    )


def camera_info(header: Any, info: Any, found: Intrinsics) -> Any:
    """`info` with what changes in it for a label map; neither region nor binning."""
    region = _make(
        'sensor_msgs/msg/RegionOfInterest', x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    height, width = found.size
    return _make(
        CAMERA_INFO,
        header=header,
        height=height,
        width=width,
        distortion_model=info.distortion_model,
        d=info.d,
        k=found.k_33.reshape(-1),
        r=info.r,
        p=found.p_34.reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def label_info(class_names: Sequence[str], stamp_ns: int) -> Any:
    """The names of the class ids 0..N-1."""
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    stamp = _make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)
    names = [
        _make('vision_msgs/msg/VisionClass', class_id=number, class_name=name)
        for number, name in enumerate(class_names)
    ]
    header = _make('std_msgs/msg/Header', stamp=stamp, frame_id='')
    return _make(LABEL_INFO, header=header, class_map=names, threshold=0.0)


def detections(header: Any, found: Detections, class_names: Sequence[str]) -> Any:
    """Boxes as centre and size in pixels of the source image, best first; class_id is the class's name."""
    items = []
    for box in boxes_of(found, class_names):
        hypothesis = _make('vision_msgs/msg/ObjectHypothesis', class_id=box.class_name, score=box.score)
        (x, y), (width, height) = box.center_xy, box.size_xy
        position = _make('vision_msgs/msg/Point2D', x=x, y=y)
        center = _make('vision_msgs/msg/Pose2D', position=position, theta=0.0)
        items.append(
            _make(
                'vision_msgs/msg/Detection2D',
                header=header,
                results=[
                    _make('vision_msgs/msg/ObjectHypothesisWithPose', hypothesis=hypothesis, pose=_no_pose())
                ],
                bbox=_make('vision_msgs/msg/BoundingBox2D', center=center, size_x=width, size_y=height),
                id='',
            )
        )
    return _make(DETECTIONS, header=header, detections=items)


def status(header: Any, name: str, summary: str, is_fault: bool, values: Mapping[str, object]) -> Any:
    """One diagnostic status with `header`."""
    pairs = [
        _make('diagnostic_msgs/msg/KeyValue', key=key, value=value_text(value))
        for key, value in values.items()
    ]
    one = _make(
        'diagnostic_msgs/msg/DiagnosticStatus',
        level=_WARN if is_fault else _OK,
        name=name,
        message=summary,
        hardware_id=header.frame_id,
        values=pairs,
    )
    return _make(STATUS, header=header, status=[one])


def _no_pose() -> Any:
    point = _make('geometry_msgs/msg/Point', x=0.0, y=0.0, z=0.0)
    turn = _make('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0)
    pose = _make('geometry_msgs/msg/Pose', position=point, orientation=turn)
    return _make('geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=np.zeros(36))


def _make(kind: str, /, **fields: Any) -> Any:
    return typestore().types[kind](**fields)
