# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What RViz and Foxglove make of the outputs, by their own rules, over real DDS.

ros2/rviz: rviz_default_plugins/displays/image/ros_image_texture.cpp (`update` hands the bytes of 8-bit images
to the texture by width, height and encoding, whatever `step` says) and displays/camera/camera_display.cpp
(the camera_info beside the image topic; NaN, and a width or height of 0, are errors; the projection is that
of `calculateProjectionMatrix`).
foxglove/ros-foxglove-bridge: ros2_foxglove_bridge.cpp (`subscribe`: reliable and transient local where all
publishers are, with the sum of their depths); foxglove/studio: decodings.ts (`step` at least a row).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip('rclpy')
from consumers import Consumer, SceneBackend, pixels
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_helpers import BOX_SPEC, Graph, Peer, camera_info_message, image_message, stamp, wait_until
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from dff_ros.messages import stamp_to_ns
from dff_ros.ros import frame_status

KINDS = {
    'dff/segmentation': Image,
    'dff/confidence': Image,
    'dff/overlay': Image,
    'dff/camera_info': CameraInfo,
    'dff/detections': Detection2DArray,
    'dff/label_info': LabelInfo,
    'dff/status': DiagnosticArray,
}
if frame_status.FrameStatus is not None:
    KINDS['dff/frame_status'] = frame_status.FrameStatus
LATCHED = ('dff/label_info',)
ENCODINGS = {'dff/segmentation': ('mono8', 1), 'dff/confidence': ('mono8', 1), 'dff/overlay': ('rgb8', 3)}


def bridge_profile(node: Node, topic: str) -> QoSProfile:
    """The subscription that foxglove_bridge makes for a topic."""
    wait_until(lambda: node.count_publishers(topic), f'a publisher of {topic}')
    offered = [info.qos_profile for info in node.get_publishers_info_by_topic(topic)]
    is_reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    is_latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        depth=min(max(sum(max(1, profile.depth) for profile in offered), 1), 25),
        reliability=ReliabilityPolicy.RELIABLE if is_reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if is_latched else DurabilityPolicy.VOLATILE,
    )


class Viewer(Consumer):
    """Subscribes to every output as foxglove_bridge does; RViz by default does it reliable and volatile."""

    def __init__(self, graph: Graph, name: str = 'viewer') -> None:
        super().__init__(graph.context, name)
        graph.spin(self)
        self.found = {
            topic: self.listen(kind, topic, bridge_profile(self, f'/{topic}'))
            for topic, kind in KINDS.items()
        }


def start(graph: Graph, **parameters: object) -> tuple[Peer, Viewer]:
    node = graph.start_node(SceneBackend(), BOX_SPEC, **parameters)
    peer = graph.start_peer()
    viewer = Viewer(graph)
    outputs = node._topics[''].publishers._advertised
    wanted = {topic: 1 if topic == 'dff/overlay' else 2 for topic in KINDS}
    wait_until(
        lambda: all(outputs[t].get_subscription_count() == number for t, number in wanted.items()),
        'the viewer to match',
    )
    peer.calibration.publish(camera_info_message(0))
    infos = node._topics[''].pipeline.camera_infos
    wait_until(lambda: infos.at(camera_info_message(0).header.stamp), 'the calibration')
    return peer, viewer


def show(peer: Peer, viewer: Viewer, numbers: tuple[int, ...]) -> None:
    """One image after the other: the viewer's queues hold one message."""
    per_frame = [viewer.found[topic] for topic in KINDS if topic not in LATCHED]
    for index, number in enumerate(numbers):
        peer.ask(image_message(number, frame_id='left_optical'))
        viewer.wait_for(lambda n=index: all(len(found) > n for found in per_frame), 'every output')


def test_all_outputs_of_a_frame_have_the_header_of_its_image(graph: Graph):
    """What pairs by stamp, looks up transforms by frame_id, or plots by header time needs them equal."""
    peer, viewer = start(graph)
    show(peer, viewer, (0, 1, 2))
    for index in range(3):
        image = image_message(index, frame_id='left_optical')
        for topic in KINDS:
            if topic not in LATCHED:
                assert viewer.found[topic][index].header == image.header, topic
        boxes = viewer.found['dff/detections'][index].detections
        assert len(boxes) == 2
        assert [box.header for box in boxes] == [image.header] * 2  # RViz looks each box's frame up


@pytest.mark.parametrize(('output_size', 'size'), [('source', (32, 48)), ('21x13', (13, 21))])
def test_images_are_read_as_they_are_meant(graph: Graph, output_size: str, size: tuple[int, int]):
    peer, viewer = start(graph, segmentation__output_size=output_size)
    show(peer, viewer, (0, 1))
    sizes = {'dff/segmentation': size, 'dff/confidence': size, 'dff/overlay': (32, 48)}
    for topic, (encoding, channels) in ENCODINGS.items():
        for message in viewer.found[topic]:
            assert (message.encoding, message.is_bigendian) == (encoding, 0)
            assert (message.height, message.width) == sizes[topic]
            assert message.step == message.width * channels  # no padding: RViz reads width x height pixels
            assert len(message.data) == message.step * message.height
    ids = pixels(viewer.found['dff/segmentation'][1])[..., 0]
    picture = pixels(viewer.found['dff/overlay'][1])
    assert set(np.unique(ids)) == {0, 1, 255}
    assert (picture[16, 46] == 1).all()  # unknown: the image itself, grey 1
    road = np.array(BOX_SPEC.class_colours[0])
    np.testing.assert_allclose(picture[28, 2], 0.5 * road + 0.5, atol=1)


@pytest.mark.parametrize('output_size', ['source', '24x16'])
def test_the_camera_display_of_a_label_map_finds_a_calibration_beside_it_that_projects_alike(
    graph: Graph, output_size: str
):
    """CameraDisplay takes `camera_info` beside the image topic, and of it p[0], p[2], p[3], p[5], p[6], p[7]
    in relation to width and height alone: the picture is the same at any size.
    """
    peer, viewer = start(graph, segmentation__output_size=output_size)
    show(peer, viewer, (0,))
    (found,) = viewer.found['dff/camera_info']
    (mask,) = viewer.found['dff/segmentation']
    assert (found.height, found.width) == (mask.height, mask.width)
    values = [*found.d, *found.k, *found.r, *found.p]
    assert all(map(math.isfinite, values)) and found.width and found.height

    def projection(info: CameraInfo) -> list[float]:
        x, y = info.p[0] / info.width, info.p[5] / info.height
        centre = info.p[2] / info.width, info.p[6] / info.height
        return [x, y, *centre, info.p[3] / info.p[0], info.p[7] / info.p[5]]

    np.testing.assert_allclose(projection(found), projection(camera_info_message(0)), rtol=1e-12)


def test_no_confidence_is_made_while_nobody_listens(graph: Graph):
    node = graph.start_node(SceneBackend())
    camera = Consumer(graph.context, 'camera')
    graph.spin(camera)
    images = camera.create_publisher(Image, 'image', 10)
    statuses = camera.listen(DiagnosticArray, 'dff/status', QoSProfile(depth=10))
    publishers = node._topics[''].publishers
    status = publishers._advertised['dff/status']
    wait_until(lambda: images.get_subscription_count() and status.get_subscription_count(), 'the match')
    images.publish(image_message(0))
    camera.wait_for(lambda: statuses, 'the status')
    assert len(publishers._confidence_message.data) == 0
    confidences = camera.listen(Image, 'dff/confidence', QoSProfile(depth=10))
    confidence = publishers._advertised['dff/confidence']
    wait_until(confidence.get_subscription_count, 'the listener')
    images.publish(image_message(1))
    camera.wait_for(lambda: confidences, 'the confidence')
    assert stamp_to_ns(confidences[0].header.stamp) == stamp(1)


def test_who_joins_late_gets_the_class_names_and_the_last_state(graph: Graph):
    """The bridge's queue holds one message where the middleware does not tell the publisher's depth."""
    peer, viewer = start(graph)
    show(peer, viewer, (0, 1, 2))
    late = Viewer(graph, 'late')
    late.wait_for(lambda: all(late.found[topic] for topic in ('dff/label_info', 'dff/status')), 'both')
    assert [entry.class_name for entry in late.found['dff/label_info'][0].class_map] == ['road', 'car']
    late.wait_for(
        lambda: stamp_to_ns(late.found['dff/status'][-1].header.stamp) == stamp(2), 'the last status'
    )
    assert late.found['dff/segmentation'] == []  # images are not kept


def test_a_status_is_one_that_every_tool_for_diagnostics_shows(graph: Graph):
    """rqt_robot_monitor and Foxglove's diagnostics panel group by name and colour by level."""
    peer, viewer = start(graph)
    show(peer, viewer, (0,))
    ((status,),) = [message.status for message in viewer.found['dff/status']]
    assert (status.name, status.message, status.hardware_id) == ('dff_node', 'key', 'left_optical')
    assert status.level == DiagnosticStatus.OK
    assert all(pair.key for pair in status.values)
    assert len({pair.key for pair in status.values}) == len(status.values)
