# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The camera_info beside a camera's images: its topic, and the message made of it."""

from __future__ import annotations

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, RegionOfInterest
from std_msgs.msg import Header

from dff_ros.camera_info import Intrinsics
from dff_ros.cameras import topic_of
from dff_ros.ros.image_input import COMPRESSED, IMAGE, image_topic, is_remapped


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


def to_camera_info(header: Header, info: CameraInfo, found: Intrinsics) -> CameraInfo:
    """`info`, which came beside an image, for the label map of that image with `header`.

    K and P are those of the label map's own pixels, so it has neither region nor binning; distortion (which
    holds for any size) and R stay.
    """
    message = CameraInfo(
        header=header, distortion_model=info.distortion_model, d=info.d, r=info.r, roi=RegionOfInterest()
    )
    message.height, message.width = found.size
    message.k, message.p = found.k_33.reshape(-1), found.p_34.reshape(-1)
    return message
