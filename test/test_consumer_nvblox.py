# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What isaac_ros_nvblox makes of the outputs, by its own rules, over real DDS.

NVIDIA-ISAAC-ROS/isaac_ros_nvblox: nvblox_ros/src/lib/nvblox_node.cpp (`subscribeToTopics`: ExactTime over
image, its camera_info, mask and the mask's camera_info with a queue of 10; QoS SYSTEM_DEFAULT) and
nvblox_ros/src/lib/conversions/image_conversions.cpp (`monoImageFromNitrosViewAsync`: a mask that is not mono8
is refused; `cameraFromMessage`: K, width and height of the info are the camera, and nothing else of it).
"""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')
from consumers import Consumer, ExactTime, SceneBackend, pixels
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_helpers import Graph, Peer, camera_info_message, image_message, stamp, wait_until
from sensor_msgs.msg import CameraInfo, Image

from dff_ros.messages import stamp_to_ns
from dff_ros.ros.mask import MASK_TOPIC, MaskNode

POINTS = np.array([[0.0, 0.0, 2.0], [0.5, -0.25, 3.0], [-1.0, 0.5, 4.0], [0.1, 0.2, 0.7]])


class Mapper(Consumer):
    """Nvblox with one camera and `use_segmentation`, `camera_0/mask/image` and `camera_info` remapped."""

    def __init__(self, context: Context, mask_topic: str) -> None:
        super().__init__(context, 'nvblox_node')
        self.sets: list[tuple[Image, CameraInfo, Image, CameraInfo]] = []
        self.sync = ExactTime(4, 10, lambda *messages: self.sets.append(messages))
        profile = QoSProfile(depth=10, reliability=ReliabilityPolicy.SYSTEM_DEFAULT)
        self.images = self.listen(Image, 'image', profile, self.sync.add(0))
        self.infos = self.listen(CameraInfo, 'camera_info', profile, self.sync.add(1))
        self.masks = self.listen(Image, mask_topic, profile, self.sync.add(2))
        self.mask_infos = self.listen(CameraInfo, 'dff/camera_info', profile, self.sync.add(3))


def start(graph: Graph, mask_topic: str, **parameters: object):
    """Node, dff_mask for the class car, camera, and the mapper, which takes its masks from a topic."""
    node = graph.start_node(SceneBackend(), **parameters)
    peer = graph.start_peer()
    masker = MaskNode(context=graph.context, parameter_overrides=[Parameter('classes', value='car')])
    mapper = Mapper(graph.context, mask_topic)
    graph.spin(masker)
    graph.spin(mapper)
    outputs = node._topics[''].publishers._advertised
    is_masked = mask_topic == MASK_TOPIC
    ends = [(end, 2) for end in (peer.camera, peer.calibration, outputs['dff/camera_info'])]
    ends += [(masker._mask, int(is_masked)), (outputs['dff/segmentation'], 2 if is_masked else 3)]
    wait_until(lambda: all(end.get_subscription_count() == number for end, number in ends), 'the match')
    wait_until(lambda: masker._table_256 is not None, 'the class names')
    return node, peer, mapper


def show(node, peer: Peer, number: int) -> None:
    """As a driver does: image and camera_info with one stamp."""
    received = node._topics[''].pipeline.camera_infos
    peer.calibration.publish(camera_info_message(number))
    header = camera_info_message(number).header
    wait_until(lambda: (found := received.at(header.stamp)) and found.header == header, 'the calibration')
    peer.ask(image_message(number))


def project(info: CameraInfo, points: np.ndarray) -> np.ndarray:
    """By `cameraFromMessage`, as shares of width and height."""
    u = info.k[0] * points[:, 0] / points[:, 2] + info.k[2]
    v = info.k[4] * points[:, 1] / points[:, 2] + info.k[5]
    return np.stack([u / info.width, v / info.height], axis=1)


@pytest.mark.parametrize('topic', ['dff/segmentation', MASK_TOPIC])
@pytest.mark.parametrize(('output_size', 'size'), [('source', (32, 48)), ('12x20', (20, 12))])
def test_each_mask_is_paired_with_its_image_and_calibration_by_exact_stamps(graph, topic, output_size, size):
    node, peer, mapper = start(graph, topic, segmentation__output_size=output_size)
    for number in range(12):
        show(node, peer, number)
    mapper.wait_for(lambda: len(mapper.sets) == 12, 'all sets')
    assert mapper.sync.dropped == []
    assert [stamp_to_ns(found[2].header.stamp) for found in mapper.sets] == [stamp(n) for n in range(12)]
    for image, info, mask, mask_info in mapper.sets:
        assert image.header == info.header == mask.header == mask_info.header
        assert mask.encoding == 'mono8'
        assert (mask.height, mask.width) == (mask_info.height, mask_info.width) == size
        assert len(mask.data) == size[0] * size[1]  # copied as height x width bytes
        np.testing.assert_allclose(project(mask_info, POINTS), project(info, POINTS), rtol=1e-12)


def test_every_mask_has_its_calibration_also_where_frames_are_idle_dropped_or_begin_anew(graph):
    """A mask without one would wait in the queue and push out others."""
    node, peer, mapper = start(graph, MASK_TOPIC, segmentation__every=2)
    for number in (0, 1, 2, 3):
        show(node, peer, number)
    broken = image_message(4)
    broken.encoding = 'unknown'
    peer.ask(broken)
    for number in (5, 6, 1, 2):  # the bag begins anew
        show(node, peer, number)
    mapper.wait_for(lambda: len(mapper.masks) == len(mapper.mask_infos) == 4, 'masks and calibrations')
    assert [m.header for m in mapper.masks] == [m.header for m in mapper.mask_infos]
    assert [stamp_to_ns(m.header.stamp) for m in mapper.masks] == [stamp(n) for n in (0, 2, 5, 1)]


def test_the_car_is_masked_and_what_is_unknown_is_not(graph):
    """Every number but 0 is masked: of a label map itself 255, and all classes but the first, would be."""
    node, peer, mapper = start(graph, MASK_TOPIC)
    for number in (0, 1):
        show(node, peer, number)
    mapper.wait_for(lambda: len(mapper.sets) == 2, 'both sets')
    key, propagated = (pixels(found[2])[..., 0] for found in mapper.sets)
    assert set(np.unique(key)) == {0, 255}
    assert (key[:, 16:] == 255).all() and not key[:, :16].any()
    assert (propagated[:, 16:25] == 255).all() and not propagated[:, :16].any()
    assert not propagated[:, 25:].any()  # warped from outside: no answer, so nobody
