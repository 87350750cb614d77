# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Message <-> record: functions only, no state, no node."""

from __future__ import annotations

import array
from collections.abc import Mapping, Sequence

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

from dff_ros.errors import ConversionError
from dff_ros.messages import NS_PER_S, boxes_of, value_text
from dff_ros.types import Detections


def ns_to_stamp(stamp_ns: int) -> Time:
    """Nanoseconds as a header stamp."""
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    return Time(sec=sec, nanosec=nanosec)


def fill_image(message: Image, header: Header, image: NDArray[np.uint8]) -> Image:
    """Write a uint8 (H, W) array as mono8, or (H, W, 3) as rgb8, into a message that may be used again.

    Rows are not padded. The message's own buffer is kept while the size stays: assigning `data` each time
    would check and copy it byte by byte (rclpy issue 763).
    """
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ConversionError(
            f'an image message takes uint8 (H, W) or (H, W, 3), not {image.dtype} {image.shape}'
        )
    message.header = header
    message.height, message.width = image.shape[:2]
    message.encoding = 'mono8' if image.ndim == 2 else 'rgb8'
    message.is_bigendian = 0
    message.step = image.shape[1] * (1 if image.ndim == 2 else 3)
    if len(message.data) != image.size:
        message.data = array.array('B', bytes(image.size))
    np.copyto(np.frombuffer(message.data, np.uint8).reshape(image.shape), image)
    return message


def to_label_info(class_names: Sequence[str], stamp: Time, threshold: float = 0.0) -> LabelInfo:
    """The names of the class ids 0..N-1, in the message that Nav2's semantic layer and RViz plugins read."""
    message = LabelInfo(header=Header(stamp=stamp), threshold=float(threshold))
    message.class_map = [
        VisionClass(class_id=number, class_name=name) for number, name in enumerate(class_names)
    ]
    return message


def to_detection_array(header: Header, found: Detections, class_names: Sequence[str]) -> Detection2DArray:
    """Boxes as centre and size in pixels of the source image, best first; class_id is the class's name.

    Array and detections have the header. `id` and the pose of the hypothesis stay empty.
    """
    message = Detection2DArray(header=header)
    for found_box in boxes_of(found, class_names):
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = found_box.class_name
        hypothesis.hypothesis.score = found_box.score
        detection = Detection2D(header=header, results=[hypothesis])
        box = detection.bbox
        box.center.position.x, box.center.position.y = found_box.center_xy
        box.size_x, box.size_y = found_box.size_xy
        message.detections.append(detection)
    return message


def to_detections(message: Detection2DArray, class_names: Sequence[str]) -> Detections:
    """Back from `to_detection_array`; ConversionError on a class that is not among the names."""
    boxes, class_ids, scores = [], [], []
    for detection in message.detections:
        box, hypothesis = detection.bbox, detection.results[0].hypothesis
        if hypothesis.class_id not in class_names:
            raise ConversionError(
                f'a detection of class {hypothesis.class_id!r}; known are {", ".join(class_names)}'
            )
        x, y, half_x, half_y = box.center.position.x, box.center.position.y, box.size_x / 2, box.size_y / 2
        boxes.append((x - half_x, y - half_y, x + half_x, y + half_y))
        class_ids.append(class_names.index(hypothesis.class_id))
        scores.append(hypothesis.score)
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(class_ids, np.int64),
        np.array(scores, np.float32),
    )


def to_diagnostics(
    header: Header, name: str, summary: str, is_fault: bool, values: Mapping[str, object]
) -> DiagnosticArray:
    """One diagnostic status with `header`; floats get three decimals, booleans are true or false."""
    status = DiagnosticStatus(
        level=DiagnosticStatus.WARN if is_fault else DiagnosticStatus.OK,
        name=name,
        message=summary,
        hardware_id=header.frame_id,
        values=to_key_values(values),
    )
    return DiagnosticArray(header=header, status=[status])


def to_key_values(values: Mapping[str, object]) -> list[KeyValue]:
    """Values as text: floats with three decimals, booleans as true or false."""
    return [KeyValue(key=key, value=value_text(value)) for key, value in values.items()]


def diagnostic_values(message: DiagnosticArray) -> dict[str, str]:
    """The key/value pairs of the first status: what `to_diagnostics` was given, as text."""
    return {pair.key: pair.value for pair in message.status[0].values} if message.status else {}
