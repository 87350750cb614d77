# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Segmentation as a simple node: one callback that converts, runs the network on the frame, and publishes.

    python benchmarks/peers/plain_node.py --ros-args -p bundle:=road-r18 -p num_threads:=4

Topics: `image` in, `segmentation` (mono8) out. What one writes with rclpy, cv_bridge and ONNX Runtime in an
afternoon; where cv_bridge cannot be imported, what it does is done with NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import rclpy
from numpy.typing import NDArray
from plain_onnx import PlainNetwork
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

_CHANNELS = {'rgb8': 3, 'bgr8': 3, 'rgba8': 4, 'bgra8': 4, 'mono8': 1}


def to_rgb(message: Image) -> NDArray[np.uint8]:
    """A copy of the pixels as RGB, (height, width, 3), as cv_bridge gives it."""
    channels = _CHANNELS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels).copy()
    if message.encoding.startswith('bgr'):
        return np.ascontiguousarray(pixels[..., 2::-1])
    if message.encoding == 'mono8':
        return np.repeat(pixels, 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def to_message(label_map_HW: NDArray[np.uint8]) -> Image:
    """A new message each time."""
    message = Image(encoding='mono8', height=label_map_HW.shape[0], width=label_map_HW.shape[1])
    message.step = label_map_HW.shape[1]
    message.data = label_map_HW.tobytes()
    return message


def converters() -> tuple[Callable[[Image], NDArray[np.uint8]], Callable[[NDArray[np.uint8]], Image]]:
    """Those of cv_bridge where it works, else the ones above."""
    try:
        from cv_bridge import CvBridge
    except Exception:  # built for another NumPy it raises what it likes
        return to_rgb, to_message
    bridge = CvBridge()
    return (
        lambda message: bridge.imgmsg_to_cv2(message, 'rgb8'),
        lambda label_map_HW: bridge.cv2_to_imgmsg(label_map_HW, 'mono8'),
    )


class PlainNode(Node):
    """Answers each image in the callback that brings it."""

    def __init__(self) -> None:
        super().__init__('plain_node')
        bundle = self.declare_parameter('bundle', 'road-r18').value
        self._network = PlainNetwork(bundle, self.declare_parameter('num_threads', 0).value)
        self._to_rgb, self._to_message = converters()
        self._publisher = self.create_publisher(Image, 'segmentation', 10)
        self.create_subscription(Image, 'image', self._answer, qos_profile_sensor_data)

    def _answer(self, message: Image) -> None:
        label_map = self._network.label_map(self._to_rgb(message))
        answer = self._to_message(label_map)
        answer.header = message.header
        self._publisher.publish(answer)


def main(args: Sequence[str] | None = None) -> None:
    """Spin until a signal."""
    rclpy.init(args=args)
    node = PlainNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
