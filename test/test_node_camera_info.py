# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""dff/camera_info over real DDS: where it is expected, what is republished with each label map."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.qos import QoSProfile, ReliabilityPolicy
from ros_helpers import Graph, Peer, camera_info_message, image_message, stamp, wait_until
from sensor_msgs.msg import CameraInfo

from dff_ros.messages import stamp_to_ns
from dff_ros.ros.node import DffNode


def kept(node: DffNode, camera: str = '') -> list[CameraInfo]:
    return list(node._topics[camera].pipeline.camera_infos._kept)


def send(node: DffNode, peer: Peer, message: CameraInfo) -> None:
    """Publish a calibration and wait until the node has it."""
    before = len(kept(node))
    peer.calibration.publish(message)
    wait_until(lambda: len(kept(node)) > before, 'the calibration')


@pytest.mark.parametrize(
    ('remaps', 'cameras', 'topics'),
    [
        ((), '', ['/camera_info']),
        (('image:=/left/image_raw',), '', ['/left/camera_info']),
        (('image:=image_rect',), '', ['/camera_info']),
        (('image/compressed:=/left/image_raw/compressed',), '', ['/left/camera_info']),
        (('image:=/left/image_raw', 'image/compressed:=/right/jpeg'), '', ['/left/camera_info']),
        (('image:=/left/image_raw', 'camera_info:=/calibration/left'), '', ['/calibration/left']),
        (('camera_info:=/calibration/left',), '', ['/calibration/left']),
        (('image:=/left/image_raw', '/left/camera_info:=/other'), '', ['/other']),
        (('__ns:=/robot',), '', ['/robot/camera_info']),
        (('a/image:=/stereo/left', 'b/image:=/stereo/right'), 'a,b', ['/stereo/camera_info'] * 2),
        (
            ('front/image:=/front_camera/image_raw', 'rear/camera_info:=/rear_info'),
            'front,rear,left',
            ['/front_camera/camera_info', '/left/camera_info', '/rear_info'],
        ),
    ],
)
def test_it_is_expected_beside_the_images_or_where_it_is_remapped_to(graph, remaps, cameras, topics):
    node = graph.start_node(FakeBackend(), remaps=remaps, cameras=cameras)
    asked = [subscription for subscription in node.subscriptions if subscription.msg_type is CameraInfo]
    assert sorted(subscription.topic_name for subscription in asked) == topics
    name = f'qos_overrides.{topics[0]}.subscription.reliability'
    assert node.get_parameter(name).value == 'best_effort'


def test_each_label_map_has_one_with_its_header_and_the_numbers_of_the_camera(graph):
    node = graph.start_node(FakeBackend(), segmentation__every=2)
    peer = graph.start_peer()
    assert peer.ask(image_message(0))['camera_info'] == 'none'
    send(node, peer, camera_info_message(1, frame_id='another'))
    for number in (1, 2, 3, 4):
        facts = peer.ask(image_message(number, frame_id='left_optical'))
    assert (facts['camera_info'], facts['camera_info.refused']) == ('published', '0')
    peer.wait_for(lambda: len(peer.label_maps) == 3 and len(peer.camera_infos) == 2, 'the messages')
    assert [message.header for message in peer.camera_infos] == [m.header for m in peer.label_maps[1:]]
    assert peer.camera_infos[0].header.frame_id == 'left_optical'
    expected = camera_info_message(2, frame_id='left_optical')
    assert peer.camera_infos[0] == expected


def test_the_one_with_the_stamp_of_the_image_is_taken_else_the_newest(graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    for number in (0, 1, 2):
        message = camera_info_message(number)
        message.k[0] = 40.0 + number
        send(node, peer, message)
    for number in (1, 7):
        peer.ask(image_message(number))
    peer.wait_for(lambda: len(peer.camera_infos) == 2, 'two calibrations')
    assert [message.k[0] for message in peer.camera_infos] == [41.0, 42.0]
    assert [stamp_to_ns(message.header.stamp) for message in peer.camera_infos] == [stamp(1), stamp(7)]


def test_region_and_binning_are_taken_in_and_the_answer_has_neither(graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    message = camera_info_message(0, size=(100, 200))
    message.roi.x_offset, message.roi.y_offset, message.roi.height, message.roi.width = 10, 4, 64, 96
    message.roi.do_rectify = True
    message.binning_x = message.binning_y = 2
    send(node, peer, message)
    peer.ask(image_message(0))
    peer.wait_for(lambda: peer.camera_infos, 'the calibration')
    (found,) = peer.camera_infos
    assert (found.height, found.width, found.binning_x, found.binning_y) == (32, 48, 0, 0)
    assert found.roi == CameraInfo().roi
    np.testing.assert_array_equal(found.k, [20, 0, 6.5, 0, 20.5, 5.5, 0, 0, 1])
    np.testing.assert_array_equal(found.p, [19, 0, 6, -2, 0, 19.5, 5, 0, 0, 0, 1, 0])
    assert (found.distortion_model, found.d) == (message.distortion_model, message.d)
    np.testing.assert_array_equal(found.r, message.r)


def test_one_that_cannot_be_used_is_not_published_but_told_counted_and_warned_of(graph, capfd):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    send(node, peer, camera_info_message(0, size=(480, 640)))
    states = [peer.ask(image_message(number)) for number in (0, 1)]
    nan = camera_info_message(2)
    nan.k[0] = float('nan')
    for number, message in ((2, nan), (3, camera_info_message(3)), (4, camera_info_message(4, size=(1, 1)))):
        send(node, peer, message)
        states.append(peer.ask(image_message(number)))
    found = [(facts['camera_info'], facts['camera_info.refused']) for facts in states]
    assert found == [
        ('unfit', '1'), ('unfit', '2'), ('uncalibrated', '3'), ('published', '3'), ('unfit', '4'),
    ]  # fmt: skip
    assert [facts['state'] for facts in states] == ['key'] + ['propagated'] * 4  # the images are answered
    assert peer.stamps() == [stamp(number) for number in range(5)]
    peer.wait_for(lambda: peer.camera_infos, 'the calibration')
    assert [stamp_to_ns(message.header.stamp) for message in peer.camera_infos] == [stamp(3)]
    log = capfd.readouterr().err
    assert 'camera_info tells of 640x480 pixels with binning 1x1, but the image has 48x32: remap' in log
    assert 'camera_info holds no calibration (fx nan, fy 41): calibrate the camera' in log
    assert log.count('no dff/camera_info with') == 2  # at most one of a kind in some seconds


def test_best_effort_publishers_are_heard_and_nothing_is_while_inactive(graph: Graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    sensor = peer.create_publisher(CameraInfo, 'camera_info', QoSProfile(
        depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))  # fmt: skip
    wait_until(sensor.get_subscription_count, 'the node to subscribe')
    sensor.publish(camera_info_message(0))
    wait_until(lambda: kept(node), 'the calibration')
    node.trigger_deactivate()
    wait_until(lambda: not sensor.get_subscription_count(), 'the node to unsubscribe')
