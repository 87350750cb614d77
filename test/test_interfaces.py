# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The definitions in interfaces/: vision_msgs as the published package has it, and dff_msgs of our own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rosbags import typesys

INTERFACES = Path(__file__).parents[1] / 'interfaces'
DEFINITIONS = INTERFACES / 'vision_msgs' / 'msg'
DFF_MSGS = INTERFACES / 'dff_msgs'

# REP-2011 type hashes of vision_msgs 4.1.1 (ROS 2 Jazzy).
PUBLISHED_HASHES = {
    'Point2D': 'eab0e83f44ab4de92ceaf76dd7d0e7638f2bdd1d16ffbe16c7a136c48e407247',
    'Pose2D': 'b0b5d1d7b4c20dd4fcde3ed1d4b289a919290572007d67a97043814db25d3648',
    'BoundingBox2D': '008eacbb0cf8f26e83795547bed013eec3675485ef386ec056d80eaaf1c1ce2f',
    'ObjectHypothesis': '51da43cec11c01957a64d1e05a24acd18aae7745ec30b74348ad5f6d634f7f90',
    'ObjectHypothesisWithPose': '41c12344c0396c48b81df12467c192d99b2a0eb1463c5c37194e4223251c80bc',
    'Detection2D': '0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea',
    'Detection2DArray': '214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968',
    'VisionClass': '1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a',
    'LabelInfo': '3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783',
    'VisionInfo': '95d3116a17484ad91c9a2686e1d54890bbfc3ff6c6a2de137738c4950d45d284',
}


def test_definitions_build_list_and_hash_table_name_the_same_messages():
    cmake = (DEFINITIONS.parent / 'CMakeLists.txt').read_text()
    assert {path.stem for path in DEFINITIONS.iterdir()} == set(PUBLISHED_HASHES)
    assert set(re.findall(r'msg/(\w+)\.msg', cmake)) == set(PUBLISHED_HASHES)


@pytest.mark.parametrize('name', PUBLISHED_HASHES)
def test_type_hash_equals_the_published_one(name):
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    for path in DEFINITIONS.iterdir():
        store.register(typesys.get_types_from_msg(path.read_text(), f'vision_msgs/msg/{path.stem}'))
    assert store.hash_rihs01(f'vision_msgs/msg/{name}') == f'RIHS01_{PUBLISHED_HASHES[name]}'


def test_installed_package_announces_the_published_hashes(ros_context):
    messages = pytest.importorskip('vision_msgs.msg')
    from rclpy.node import Node

    node = Node('announcer', context=ros_context)
    announced = {}
    for name in PUBLISHED_HASHES:
        node.create_publisher(getattr(messages, name), name.lower(), 1)
        (endpoint,) = node.get_publishers_info_by_topic(f'/{name.lower()}')
        announced[name] = bytes(endpoint.topic_type_hash.value).hex()
    node.destroy_node()
    assert announced == PUBLISHED_HASHES


def test_detections_survive_serialization():
    messages = pytest.importorskip('vision_msgs.msg')
    from rclpy.serialization import deserialize_message, serialize_message

    detection = messages.Detection2D(id='7')
    detection.header.frame_id = 'camera'
    detection.header.stamp.nanosec = 999_999_999
    detection.bbox.center.position.x, detection.bbox.center.position.y = 320.5, -1.25
    detection.bbox.center.theta = 0.125
    detection.bbox.size_x, detection.bbox.size_y = 64.0, 32.5
    hypothesis = messages.ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = 'pedestrian', 0.875
    hypothesis.pose.covariance[35] = 4.0
    detection.results = [hypothesis]
    sent = messages.Detection2DArray(header=detection.header, detections=[detection, messages.Detection2D()])
    received = deserialize_message(serialize_message(sent), messages.Detection2DArray)
    assert received == sent
    assert received.detections[0].results[0].hypothesis.class_id == 'pedestrian'
    assert received.detections[0].bbox.center.position.y == -1.25
    assert received.detections[1].results == []


def test_label_info_survives_serialization():
    messages = pytest.importorskip('vision_msgs.msg')
    from rclpy.serialization import deserialize_message, serialize_message

    names = {0: 'sky', 3: 'road', 255: 'unlabelled'}
    sent = messages.LabelInfo(
        class_map=[messages.VisionClass(class_id=number, class_name=name) for number, name in names.items()],
        threshold=0.25,
    )
    received = deserialize_message(serialize_message(sent), messages.LabelInfo)
    assert {entry.class_id: entry.class_name for entry in received.class_map} == names
    assert received.threshold == 0.25


# --- dff_msgs


def dff_msgs_hashes() -> dict[str, str]:
    """Of the definitions, by name."""
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    names = [path.stem for path in (DFF_MSGS / 'msg').iterdir()]
    for name in names:
        text = (DFF_MSGS / 'msg' / f'{name}.msg').read_text()
        store.register(typesys.get_types_from_msg(text, f'dff_msgs/msg/{name}'))
    return {name: store.hash_rihs01(f'dff_msgs/msg/{name}') for name in names}


def test_dff_msgs_builds_all_of_its_definitions():
    cmake = (DFF_MSGS / 'CMakeLists.txt').read_text()
    built = set(re.findall(r'msg/(\w+)\.msg', cmake))
    assert built == {path.stem for path in (DFF_MSGS / 'msg').iterdir()} == dff_msgs_hashes().keys()
    assert {'FrameStatus', 'StageTimes', 'Count'} == built


def test_colcon_finds_dff_msgs_and_leaves_vision_msgs_to_the_distribution():
    assert (INTERFACES / 'vision_msgs' / 'COLCON_IGNORE').exists()
    assert not (DFF_MSGS / 'COLCON_IGNORE').exists()
    package = pytest.importorskip('catkin_pkg.package').parse_package(str(DFF_MSGS))
    package.validate()
    assert package.name == 'dff_msgs'
    assert [group.name for group in package.member_of_groups] == ['rosidl_interface_packages']


def test_every_field_of_dff_msgs_is_explained():
    """By a comment behind it, or above the lines it belongs to."""
    for path in (DFF_MSGS / 'msg').iterdir():
        blocks = path.read_text().split('\n\n')
        for block in blocks:
            is_explained = block.startswith('#')
            fields = [line for line in block.splitlines() if line and not line.startswith('#')]
            bare = [line for line in fields if '#' not in line]
            assert is_explained or not bare, f'{path.name}: {bare}'


def test_installed_dff_msgs_is_that_of_the_definitions(ros_context):
    """Built before a definition changed, it would not be understood by others: run make setup again."""
    messages = pytest.importorskip('dff_msgs.msg')
    from rclpy.node import Node

    node = Node('dff_announcer', context=ros_context)
    node.create_publisher(messages.FrameStatus, 'typed', 1)
    (endpoint,) = node.get_publishers_info_by_topic('/typed')
    found = f'RIHS01_{bytes(endpoint.topic_type_hash.value).hex()}'
    node.destroy_node()
    assert found == dff_msgs_hashes()['FrameStatus']
