# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The camera_info beside a camera's images: its topic, what is kept of it, and the message made of it."""

from __future__ import annotations

import threading
from collections import deque

from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from dff_ros.camera_info import intrinsics_of
from dff_ros.ros.cameras import topic_of
from dff_ros.ros.image_input import COMPRESSED, IMAGE, image_topic, is_remapped

_NUM_KEPT = 30
"""As many as come while an image waits and is answered."""


def camera_info_topic(node: Node, camera: str) -> str:
    """The topic of a camera's calibration: `camera_info` where that is remapped, else beside the images.

    That is image_transport's convention: of images on /left/image_raw it is /left/camera_info, and so it is
    where only /left/image_raw/compressed was named.
    """
    own, raw = topic_of(camera, 'camera_info'), topic_of(camera, IMAGE)
    if is_remapped(node, own):
        return own
    named = raw if is_remapped(node, raw) else image_topic(node, camera, COMPRESSED)
    image = node.resolve_topic_name(named).removesuffix(f'/{COMPRESSED}')
    return f'{image.rpartition("/")[0]}/camera_info'


class CameraInfos:
    """The newest calibrations of one camera. Thread-safe."""

    def __init__(self) -> None:
        self._kept: deque[CameraInfo] = deque(maxlen=_NUM_KEPT)
        self._lock = threading.Lock()

    def store(self, message: CameraInfo) -> None:
        """Keep a calibration that was received."""
        with self._lock:
            self._kept.append(message)

    def at(self, stamp: Time) -> CameraInfo | None:
        """The one that was stamped like an image, else the newest; None before the first."""
        with self._lock:
            newest_first = list(reversed(self._kept))
        same = (message for message in newest_first if message.header.stamp == stamp)
        return next(same, newest_first[0] if newest_first else None)


def to_camera_info(
    header: Header, info: CameraInfo, image_size: tuple[int, int], output_size: tuple[int, int]
) -> CameraInfo:
    """`info`, which came beside an image of `image_size`, for a label map of `output_size` with `header`.

    Sizes are (height, width). K and P are those of the label map's own pixels, so it has neither region nor
    binning; distortion (which holds for any size) and R stay. Raises CameraInfoError as `intrinsics_of` does.
    """
    found = intrinsics_of(info, image_size, output_size)
    message = CameraInfo(
        header=header, distortion_model=info.distortion_model, d=info.d, r=info.r, roi=RegionOfInterest()
    )
    message.height, message.width = found.size
    message.k, message.p = found.k_33.reshape(-1), found.p_34.reshape(-1)
    return message
