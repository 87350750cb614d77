# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Images of a source as serialized messages of a given encoding, made before anything is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.errors import ConfigError
from dff_ros.ros.conversions import fill_image
from dff_ros.sources import FrameSource

FRAME_ID = 'camera'

_MAX_IMAGES, _MIN_IMAGES = 150, 16
_MAX_BYTES = 96 << 20

Pixels = NDArray[np.uint8]


def _alpha(image_HW3: Pixels) -> Pixels:
    return np.full((*image_HW3.shape[:2], 1), 255, np.uint8)


def _mosaic(image_HW3: Pixels) -> Pixels:
    """Red at the top left, blue diagonally below."""
    mosaic_HW = image_HW3[..., 1].copy()
    mosaic_HW[::2, ::2], mosaic_HW[1::2, 1::2] = image_HW3[::2, ::2, 0], image_HW3[1::2, 1::2, 2]
    return mosaic_HW


ENCODERS: Mapping[str, Callable[[Pixels], Pixels]] = {
    'rgb8': lambda image_HW3: image_HW3,
    'bgr8': lambda image_HW3: image_HW3[..., ::-1],
    'rgba8': lambda image_HW3: np.concatenate([image_HW3, _alpha(image_HW3)], axis=2),
    'bgra8': lambda image_HW3: np.concatenate([image_HW3[..., ::-1], _alpha(image_HW3)], axis=2),
    'mono8': lambda image_HW3: image_HW3[..., 1],
    'bayer_rggb8': _mosaic,
}
"""RGB to what each encoding stores, uint8 (H, W) or (H, W, channels)."""


def prepare(source: FrameSource, encoding: str = 'rgb8') -> list[bytes]:
    """The first images of a source, as many as fit into 96 MB, but 16 to 150. ConfigError where they have
    different sizes.
    """
    num_bytes = ENCODERS[encoding](np.zeros((*source.size, 3), np.uint8)).size
    number = min(_MAX_IMAGES, max(_MIN_IMAGES, _MAX_BYTES // num_bytes))
    images = [serialized(frame.image_HW3, encoding) for frame in islice(source, number)]
    if len({len(image) for image in images}) != 1:
        raise ConfigError(f'{source.name} has frames of several sizes, or none: give one with frames of one')
    return images


def serialized(image_HW3: Pixels, encoding: str) -> bytes:
    """A sensor_msgs/Image with stamp 0."""
    pixels = np.ascontiguousarray(ENCODERS[encoding](image_HW3))
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    message = fill_image(Image(), Header(frame_id=FRAME_ID), rows)
    message.encoding, message.width = encoding, width
    return bytes(serialize_message(message))
