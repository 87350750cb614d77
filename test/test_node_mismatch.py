# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Endpoints that cannot be matched are told with both sides' settings and the remedy, once, and counted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_helpers import image_message, wait_until
from sensor_msgs.msg import Image
from std_msgs.msg import String

from dff_ros.ros.node import DffNode
from dff_ros.ros.process import Spinning

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABILITY = 'qos_overrides./image.subscription.reliability'
DURABILITY = 'qos_overrides./dff/segmentation.publisher.durability'


@pytest.fixture
def other(graph, ros_context):
    """A node of another participant, as of another process."""
    node = Node('driver', namespace='/usb', context=ros_context)
    spinning = Spinning(node, context=ros_context)
    spinning.start()
    yield node
    spinning.end()
    node.destroy_node()


def told(node: DffNode, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What the node under test warned of its endpoints; the other one says what rclpy says, and a node of
    the same name may have been killed in this domain by the test before.
    """
    wait_until(lambda: not node._endpoints._untold, 'the name of the other node')
    lines = [line for line in capfd.readouterr().err.splitlines() if '[WARN]' in line]
    return [line.split('[dff_node]: ')[1] for line in lines if '[dff_node]: /' in line]


def counts(node) -> dict[str, str]:
    return {report.of: report.values['qos_mismatches'] for report in node._reports()}


def test_a_camera_that_is_not_as_reliable_as_asked_for(graph, other, capfd):
    node = graph.start_node(FakeBackend(), **{RELIABILITY: 'reliable'})
    other.create_publisher(Image, '/image', BEST_EFFORT)
    wait_until(lambda: node._endpoints.mismatches, 'the mismatch')
    wait_until(lambda: counts(node) == {'node': 1, 'camera': 1}, 'the count')
    assert told(node, capfd) == [
        '/image: /usb/driver cannot reach this node (reliability): it offers best_effort, volatile, the '
        'subscription asks for reliable, volatile; give the other side the reliability of this one, or set '
        f'{RELIABILITY} to best_effort before configure'
    ]


def test_a_reader_that_asks_for_the_last_message(graph, other, capfd):
    node = graph.start_node(FakeBackend())
    other.create_subscription(Image, '/dff/segmentation', lambda message: None, LATCHED)
    wait_until(lambda: counts(node) == {'node': 1, 'camera': 1}, 'the mismatch')
    assert told(node, capfd) == [
        '/dff/segmentation: /usb/driver gets nothing from this node (durability): it asks for reliable, '
        'transient_local, the publisher offers reliable, volatile; give the other side the durability of '
        f'this one, or set {DURABILITY} to transient_local before configure'
    ]


@pytest.mark.parametrize(
    ('policy', 'asked', 'told_of_it', 'offered'),
    [
        ('deadline', {'deadline': Duration(seconds=0.5)}, 'deadline 0.5 s', 'deadline infinite'),
        (
            'liveliness',
            {'liveliness_lease_duration': Duration(seconds=2)},
            'automatic within 2 s',
            'system_default within infinite',
        ),
    ],
)
def test_a_reader_that_asks_for_more_than_parameters_can_give(
    graph, other, capfd, policy, asked, told_of_it, offered
):
    node = graph.start_node(FakeBackend())
    profile = QoSProfile(depth=1, **asked)
    other.create_subscription(Image, '/dff/segmentation', lambda message: None, profile)
    wait_until(lambda: node._endpoints.mismatches, 'the mismatch')
    assert told(node, capfd) == [
        f'/dff/segmentation: /usb/driver gets nothing from this node ({policy}): it asks for reliable, '
        f'volatile, {told_of_it}, the publisher offers reliable, volatile, {offered}; give the other side '
        f'the {policy} of this one'
    ]


def test_the_remedy_for_a_reader_helps(graph, other):
    graph.start_node(FakeBackend(), **{DURABILITY: 'transient_local'})
    graph.start_peer().ask(image_message(0))
    late: list[Image] = []
    other.create_subscription(Image, '/dff/segmentation', late.append, LATCHED)
    wait_until(lambda: late, 'the last label map')
    assert late[0].header.stamp == image_message(0).header.stamp


def test_another_type_on_a_topic(graph, other, capfd):
    node = graph.start_node(FakeBackend())
    other.create_publisher(String, '/image', 1)
    wait_until(lambda: len(node.get_publishers_info_by_topic('/image')) == 1, 'the other publisher')
    # Fast DDS has no event for it; other middlewares have.
    node._endpoints._tell_other_type('/image', Image, SimpleNamespace(total_count_change=1))
    assert told(node, capfd) == [
        '/image: /usb/driver uses it with std_msgs/msg/String, this node with sensor_msgs/msg/Image: no '
        'message passes between them; remap the topic of one of them'
    ]


def test_a_reader_that_comes_and_goes_is_counted_each_time_and_told_once(graph, other, capfd):
    node = graph.start_node(FakeBackend())
    for number in range(1, 4):
        subscription = other.create_subscription(Image, '/dff/overlay', lambda message: None, LATCHED)
        wait_until(lambda n=number: node._endpoints.mismatches['/dff/overlay'] == n, f'mismatch {number}')
        other.destroy_subscription(subscription)
    assert len(told(node, capfd)) == 1


def test_every_endpoint_has_overrides_and_says_when_they_are_read(graph):
    node = graph.start_node(FakeBackend())
    ends = [('publisher', end.topic_name) for end in node.publishers]
    ends += [('subscription', end.topic_name) for end in node.subscriptions]
    of_rclpy = {'/parameter_events', '/rosout', '/dff_node/transition_event', '/clock'}
    ours = [(kind, topic) for kind, topic in ends if topic not in of_rclpy]
    assert ('publisher', '/diagnostics') in ours
    assert ('subscription', '/image') in ours
    for kind, topic in ours:
        for policy in ('history', 'depth', 'reliability', 'durability'):
            node.get_parameter(f'qos_overrides.{topic}.{kind}.{policy}')
    (refused,) = node.set_parameters([Parameter('qos_overrides./diagnostics.publisher.depth', value=3)])
    assert not refused.successful
    assert 'read-only' in refused.reason


def test_a_bad_override_of_diagnostics_stops_the_node_from_being_made(graph):
    from dff_ros.errors import ConfigError

    with pytest.raises(ConfigError, match=r'qos_overrides\./diagnostics\.publisher\.depth'):
        graph.start_node(FakeBackend(), **{'qos_overrides./diagnostics.publisher.depth': -1})
