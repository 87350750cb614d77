# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What is read from and written into ROS messages, whoever made their classes: rclpy, or a reader of bags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from dff_ros import opencv_layouts
from dff_ros.compressed import CompressedMessage, decode_compressed
from dff_ros.encodings import DEFAULT_LIMITS, ImageLimits, RawImage, decode_raw
from dff_ros.types import Detections, Frame

NS_PER_S = 1_000_000_000


class Stamp(Protocol):
    """The fields of builtin_interfaces/Time."""

    sec: int
    nanosec: int


class Header(Protocol):
    """The fields of std_msgs/Header."""

    frame_id: str

    @property
    def stamp(self) -> Stamp:
        """When the image was taken."""


class RawMessage(RawImage, Protocol):
    """sensor_msgs/Image."""

    @property
    def header(self) -> Header:
        """Stamp and frame."""


class FileMessage(CompressedMessage, Protocol):
    """sensor_msgs/CompressedImage."""

    @property
    def header(self) -> Header:
        """Stamp and frame."""


ImageMessage = RawMessage | FileMessage


def stamp_to_ns(stamp: Stamp) -> int:
    """A header stamp in nanoseconds."""
    return int(stamp.sec) * NS_PER_S + int(stamp.nanosec)


def to_frame(message: ImageMessage, camera: str = '', limits: ImageLimits = DEFAULT_LIMITS) -> Frame:
    """An image message as a Frame; of a compressed one, `encoding` is jpeg or png.

    A tight rgb8 image is not copied: the frame is a view of its data. Raises ConversionError as `decode_raw`
    and `decode_compressed` do, ShapeError on a side below MIN_SIDE.
    """
    if hasattr(message, 'encoding'):
        raw = cast(RawMessage, message)
        image, encoding = decode_raw(raw, limits, opencv_layouts.convert), raw.encoding
    else:
        image, encoding = decode_compressed(message, limits)
    return Frame(
        image_HW3=image,
        stamp_ns=stamp_to_ns(message.header.stamp),
        frame_id=message.header.frame_id,
        encoding=encoding,
        camera=camera,
    )


@dataclass(frozen=True, slots=True)
class Box:
    """One object as vision_msgs has it: centre and size in pixels, and the class by its name."""

    center_xy: tuple[float, float]
    size_xy: tuple[float, float]
    class_name: str
    score: float


def boxes_of(found: Detections, class_names: Sequence[str]) -> Iterator[Box]:
    """The objects, best first."""
    values = zip(found.boxes_xyxy.tolist(), found.class_ids_N.tolist(), found.scores_N.tolist(), strict=True)
    for (left, top, right, bottom), class_id, score in values:
        center = (left + right) / 2, (top + bottom) / 2
        yield Box(center, (right - left, bottom - top), class_names[class_id], score)


def value_text(value: object) -> str:
    """A value of a diagnostic status: floats with three decimals, booleans as true or false."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    return f'{value:.5f}' if 0 < abs(value) < 0.1 else f'{value:.3f}'  # shares of pixels are small


def node_name(camera: str) -> str:
    """Who answers the images of a camera, in its diagnostic status."""
    return f'dff_node: {camera}' if camera else 'dff_node'
