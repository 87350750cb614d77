# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Raw and compressed images into a real node: topics, remappings, broken files, limits; and no cv_bridge."""

from __future__ import annotations

import array
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy')
pytest.importorskip('cv2')
import cv2
from fake_backend import FakeBackend
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_helpers import fake_model, image_message, ns_to_stamp, stamp, wait_until
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from dff_ros.errors import BackendUnavailableError
from dff_ros.ros import image_input
from dff_ros.ros.node import DffNode

SUCCESS = TransitionCallbackReturn.SUCCESS


def compressed_message(number: int, text: str = 'rgb8; jpeg compressed bgr8') -> CompressedImage:
    """The frame of `image_message(number)`, as jpeg or png."""
    suffix = '.png' if 'png' in text else '.jpg'
    is_encoded, data = cv2.imencode(suffix, np.full((32, 48, 3), number, np.uint8))
    assert is_encoded
    header = Header(stamp=ns_to_stamp(stamp(number)), frame_id='camera')
    return CompressedImage(header=header, format=text, data=data.tobytes())


def test_compressed_images_are_answered_and_broken_ones_dropped_by_name(graph):
    backend = FakeBackend()
    graph.start_node(backend, image_transport='compressed')
    peer = graph.start_peer(transport='compressed')
    assert peer.ask(compressed_message(1))['state'] == 'key'
    assert peer.ask(compressed_message(2, 'jpeg'))['state'] == 'propagated'

    cut = compressed_message(3)
    cut.data = cut.data[: len(cut.data) // 2]
    depth = compressed_message(4, '16UC1; compressedDepth png')
    webp = compressed_message(5)
    webp.data = b'RIFF0000WEBP'
    for message, detail in (
        (cut, 'truncated'),
        (depth, 'compressed depth image'),
        (webp, 'neither jpeg nor png'),
    ):
        dropped = peer.ask(message)
        assert (dropped['state'], dropped['reason']) == ('dropped', 'conversion')
        assert detail in dropped['detail']
    assert dropped['dropped.conversion'] == '3'

    other = peer.ask(compressed_message(6, 'rgb8; png compressed bgr8'))
    assert (other['state'], other['reset_cause']) == ('key', 'encoding')
    assert peer.stamps() == [stamp(1), stamp(2), stamp(6)]
    assert [message.header.frame_id for message in peer.label_maps] == ['camera'] * 3


def raw_message(encoding: str, number: int, rows: np.ndarray, is_bigendian: int = 0) -> Image:
    """An image of 32x48 of these bytes, each row followed by three of padding."""
    padded = np.pad(rows, ((0, 0), (0, 3)), constant_values=0xEE)
    header = Header(stamp=ns_to_stamp(stamp(number)), frame_id='camera')
    message = Image(header=header, height=32, width=48, encoding=encoding, step=padded.shape[1])
    message.is_bigendian = is_bigendian
    message.data = array.array('B', padded.tobytes())
    return message


def test_images_of_many_encodings_reach_the_networks_as_rgb(graph):
    """Grey 20 in each kind of layout; the fake network answers with the grey value."""
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    luma, chroma = np.full((32, 48), 33, np.uint8), np.full((16, 48), 128, np.uint8)  # 20 of 0..255
    messages = {
        'mono8': (np.full((32, 48), 20, np.uint8), 0),
        'bgra8': (np.full((32, 48 * 4), 20, np.uint8), 0),
        'mono16': (np.full((32, 48), 20 * 257, '>u2').view(np.uint8), 1),
        'rgb16': (np.full((32, 48 * 3), 20 * 257, '<u2').view(np.uint8), 0),
        'bayer_grbg8': (np.full((32, 48), 20, np.uint8), 0),
        'uyvy': (np.stack([np.full_like(luma, 128), luma], axis=-1).reshape(32, 96), 0),
        'nv12': (np.concatenate([luma, chroma]), 0),
        '8UC3': (np.full((32, 48 * 3), 20, np.uint8), 0),
    }
    for number, (encoding, (rows, is_bigendian)) in enumerate(messages.items()):
        facts = peer.ask(raw_message(encoding, number, rows, is_bigendian))
        assert (facts['state'], facts['reset_cause']) == ('key', 'encoding' if number else ''), encoding
    peer.wait_for(lambda: len(peer.label_maps) == len(messages), 'the label maps')
    assert [set(message.data) for message in peer.label_maps] == [{20}] * len(messages)


def test_the_largest_image_is_set_while_images_come(graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    assert peer.ask(image_message(1))['state'] == 'key'
    assert node.set_parameters([Parameter('max_pixels', value=32 * 48 - 1)])[0].successful
    dropped = peer.ask(image_message(2))
    assert (dropped['reason'], '48x32 pixels, more than max_pixels (1535)' in dropped['detail']) == (
        'conversion',
        True,
    )
    assert node.set_parameters([Parameter('max_pixels', value=32 * 48)])[0].successful
    assert peer.ask(image_message(3))['state'] == 'propagated'


def test_levels_are_moved_together_or_not_at_all(graph):
    node = graph.start_node(FakeBackend())
    levels = [Parameter('black_level', value=27000), Parameter('white_level', value=33000)]
    assert node.set_parameters_atomically(levels).successful
    refused = node.set_parameters_atomically([Parameter('white_level', value=20000)])
    assert not refused.successful
    assert 'black_level: got 27000, which must be below white_level (20000)' in refused.reason


def started(graph, remaps: tuple[str, ...] = (), **parameters: object) -> tuple[DffNode, list[int]]:
    """A node with remappings that is not spun, and its exit codes."""
    codes: list[int] = []
    node = DffNode(
        open_model=fake_model(FakeBackend()),
        context=graph.context,
        cli_args=['--ros-args', *(word for rule in remaps for word in ('-r', rule))],
        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
    )
    node.start(codes.append)
    return node, codes


def subscriptions(node: DffNode) -> dict[str, str]:
    """Types of what the node subscribes to of images, by full topic."""
    kinds = {'Image', 'CompressedImage'}
    found = {entity.topic_name: entity.msg_type.__name__ for entity in node.subscriptions}
    return {topic: kind for topic, kind in found.items() if kind in kinds}


TOPICS = [
    ((), {}, {'/image': 'Image'}),
    ((), {'image_transport': 'compressed'}, {'/image/compressed': 'CompressedImage'}),
    (('image:=/cam/image_raw',), {}, {'/cam/image_raw': 'Image'}),
    (
        ('image:=/cam/image_raw',),
        {'image_transport': 'compressed'},
        {'/cam/image_raw/compressed': 'CompressedImage'},
    ),
    (
        ('image/compressed:=/web/jpeg',),
        {'image_transport': 'compressed'},
        {'/web/jpeg': 'CompressedImage'},
    ),
    (
        ('image:=/cam/image_raw', 'image/compressed:=/web/jpeg'),
        {'image_transport': 'compressed'},
        {'/web/jpeg': 'CompressedImage'},
    ),
    (
        ('image:=/cam/image_raw', '/cam/image_raw/compressed:=/relayed'),
        {'image_transport': 'compressed'},
        {'/relayed': 'CompressedImage'},
    ),
    (
        ('__ns:=/robot', 'front/image:=/zed/left', 'rear/image:=usb/image'),
        {'image_transport': 'compressed', 'cameras': 'front,rear,side'},
        {
            '/zed/left/compressed': 'CompressedImage',
            '/robot/usb/image/compressed': 'CompressedImage',
            '/robot/side/image/compressed': 'CompressedImage',
        },
    ),
]


@pytest.mark.parametrize(('remaps', 'parameters', 'expected'), TOPICS)
def test_the_topic_is_the_one_that_image_transport_would_take(graph, remaps, parameters, expected):
    node, _ = started(graph, remaps, **parameters)
    try:
        assert subscriptions(node) == expected
    finally:
        node.destroy_node()


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_a_remapping_to_the_compressed_topic_itself_is_refused_with_the_remedy(graph, capfd, transport):
    node, codes = started(graph, ('image:=/cam/image_raw/compressed',), image_transport=transport)
    try:
        assert codes == [2]
        (line,) = [line for line in capfd.readouterr().err.splitlines() if '[FATAL]' in line]
        assert 'remapped to /cam/image_raw/compressed: remap it to /cam/image_raw and set' in line
    finally:
        node.destroy_node()


def test_compressed_images_without_opencv_fail_the_configure_with_what_to_install(graph, capfd, monkeypatch):
    def missing() -> None:
        raise BackendUnavailableError('compressed images need OpenCV: install python3-opencv')

    monkeypatch.setattr(image_input, 'require_opencv', missing)
    node, codes = started(graph, image_transport='compressed')
    try:
        assert codes == [2]
        assert 'could not be configured: compressed images need OpenCV' in capfd.readouterr().err
        assert node.set_parameters([Parameter('image_transport', value='raw')])[0].successful
        assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)
    finally:
        node.destroy_node()


def test_the_transport_changes_while_unconfigured_and_has_a_qos_of_its_own(graph):
    qos = 'qos_overrides./image/compressed.subscription.reliability'
    node, _ = started(graph, **{qos: 'reliable'})
    try:
        (refused,) = node.set_parameters([Parameter('image_transport', value='compressed')])
        assert (refused.successful, refused.reason.split(': ')[-1]) == (False, 'deactivate and cleanup first')
        assert subscriptions(node) == {'/image': 'Image'}
        node.trigger_deactivate()
        node.trigger_cleanup()
        assert node.set_parameters([Parameter('image_transport', value='compressed')])[0].successful
        (bad,) = node.set_parameters([Parameter('image_transport', value='theora')])
        assert 'one of raw, compressed' in bad.reason
        assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)
        assert subscriptions(node) == {'/image/compressed': 'CompressedImage'}

        def reliabilities() -> list[str]:
            endpoints = node.get_subscriptions_info_by_topic('/image/compressed')
            return [endpoint.qos_profile.reliability.name for endpoint in endpoints]

        wait_until(lambda: reliabilities() == ['RELIABLE'], 'one reliable subscription')
    finally:
        node.destroy_node()


CV_BRIDGE = """
import importlib, pkgutil, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        assert name.split('.')[0] != 'cv_bridge'

sys.meta_path.insert(0, Watch())
import dff_ros.ros as package
names = [module.name for module in pkgutil.iter_modules(package.__path__, 'dff_ros.ros.')]
for name in names:
    importlib.import_module(name)
assert len(names) > 10
"""


def test_nothing_of_ros_imports_cv_bridge():
    """Built for NumPy 1, that of apt breaks beside a NumPy 2 from pip; conversions do without it."""
    done = subprocess.run([sys.executable, '-c', CV_BRIDGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
