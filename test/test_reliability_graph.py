# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Faults of what surrounds the node: cameras, subscribers, parameters, services, the graph itself."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy')
from diagnostic_msgs.msg import DiagnosticArray
from fake_backend import FakeBackend
from faults import Line, running_line
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_helpers import Graph, fake_model, image_message, ros_graph, wait_until
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from dff_ros.messages import stamp_to_ns
from dff_ros.ros.node import DffNode

SUCCESS = TransitionCallbackReturn.SUCCESS
NUM_SETS = 1000
IN_FLIGHT = 8


@pytest.fixture(scope='module')
def line() -> Iterator[Line]:
    with running_line(keyframe__interval=3) as found:
        yield found


def service(line: Line, name: str) -> str:
    return f'{line.node.get_fully_qualified_name()}/{name}'


def restart_camera(line: Line) -> None:
    """The camera's publisher goes and comes back, as the driver's process would."""
    peer = line.peer
    peer.destroy_publisher(peer.camera)
    wait_until(lambda: line.node.count_publishers('image') == 0, 'the camera to be gone')
    peer.camera = peer.create_publisher(Image, 'image', 10)
    wait_until(lambda: peer.camera.get_subscription_count(), 'the node to find the camera')


def test_a_camera_that_comes_back_after_a_pause_begins_with_a_key_frame(line):
    before = line.count('resets.gap')
    restart_camera(line)
    line.stamp_ns += 5_000_000_000
    facts = line.is_good_answered()
    assert (facts['state'], facts['reset_cause'], line.count('resets.gap')) == ('key', 'gap', before + 1)


def test_a_camera_that_comes_back_at_once_goes_on(line):
    resets = {name: value for name, value in line.last.items() if name.startswith('resets.')}
    restart_camera(line)
    facts = line.is_good_answered()
    assert facts['reset_cause'] == ''
    assert {name: value for name, value in facts.items() if name.startswith('resets.')} == resets


def test_a_camera_that_comes_back_with_another_size_is_answered_in_that_size(line):
    restart_camera(line)
    facts = line.ask(image_message(1, size=(64, 96), stamp_ns=line.stamp_ns + 1))
    assert (facts['state'], facts['reset_cause']) == ('key', 'size')
    line.peer.wait_for(
        lambda: stamp_to_ns(line.peer.label_maps[-1].header.stamp) == line.stamp_ns + 1, 'the label map'
    )
    assert (line.peer.label_maps[-1].height, line.peer.label_maps[-1].width) == (64, 96)
    assert line.is_good_answered()['reset_cause'] == 'size'


def test_two_cameras_on_one_topic_cost_key_frames_and_nothing_else(line):
    other = line.peer.create_publisher(Image, 'image', 10)
    wait_until(other.get_subscription_count, 'the node to find the other camera')
    before = line.count('resets.frame_id')
    for _ in range(3):
        assert line.is_good_answered()['state'] in ('key', 'propagated')
        num_statuses = len(line.peer.statuses)
        other.publish(image_message(5, stamp_ns=line.stamp_ns + 1, frame_id='other'))
        line.peer.wait_for(
            lambda before=num_statuses: len(line.peer.statuses) > before, 'the status of the other camera'
        )
    line.peer.destroy_publisher(other)
    assert line.is_good_answered()['reset_cause'] == 'frame_id'
    assert line.count('resets.frame_id') == before + 6


def test_a_subscriber_that_never_reads_holds_up_nobody(line):
    deaf = Node('deaf', context=line.graph.context, namespace=line.graph.namespace)  # never spun
    reliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
    for topic in ('dff/segmentation', 'dff/overlay', 'dff/status'):
        before = line.node.count_subscribers(topic)
        kind = DiagnosticArray if topic == 'dff/status' else Image
        deaf.create_subscription(kind, topic, lambda message: None, reliable)
        wait_until(lambda t=topic, b=before: line.node.count_subscribers(t) > b, 'the deaf subscriber')
    try:
        before = line.count('processed')
        for _ in range(100):
            line.is_good_answered()
        assert line.count('processed') == before + 100
    finally:
        deaf.destroy_node()


@pytest.mark.parametrize('topic', ['dff/segmentation', 'dff/confidence'])
def test_a_subscriber_that_cannot_be_matched_is_told_and_the_others_go_on(line, capfd, topic):
    def count() -> int:
        return int(line.node._reports()[0].values['qos_mismatches'])

    before = count()
    late_joiner = Node('late_joiner', context=line.graph.context, namespace=line.graph.namespace)
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # the publisher is volatile
    late_joiner.create_subscription(Image, topic, lambda message: None, profile)
    wait_until(lambda: count() == before + 1, 'the mismatch')
    line.is_good_answered()
    logged: list[str] = []

    def is_told() -> bool:
        logged.extend(capfd.readouterr().err.splitlines())
        return any('/late_joiner gets nothing from this node' in text for text in logged)

    wait_until(is_told, 'the warning')
    (text,) = [text for text in logged if 'gets nothing' in text]
    assert '/peer' not in text and 'it asks for reliable, transient_local' in text
    late_joiner.destroy_node()


def to_messages(**values: object) -> list[object]:
    return [Parameter(n.replace('__', '.'), value=v).to_parameter_msg() for n, v in values.items()]


def test_a_storm_of_parameter_sets_is_served_while_images_are_answered(line):
    """1,000 atomic sets of two parameters that belong together, as many in flight as a service queues."""
    peer, name = line.peer, service(line, 'set_parameters_atomically')
    client = peer.create_client(SetParametersAtomically, name)
    assert client.wait_for_service(20.0)
    seen: list[tuple[int, float]] = []
    line.node.add_post_set_parameters_callback(
        lambda changed: seen.append(tuple(parameter.value for parameter in changed))
    )
    free, results = threading.Semaphore(IN_FLIGHT), []

    def store(future: object) -> None:
        results.append(future.result().result.successful)
        free.release()

    processed = line.count('processed')
    for number in range(NUM_SETS):
        pair = to_messages(keyframe__interval=number % 50 + 1, overlay__alpha=(number % 50 + 1) / 100)
        request = SetParametersAtomically.Request(parameters=pair)
        assert free.acquire(timeout=20.0), f'{len(results)} of {number} answered'
        client.call_async(request).add_done_callback(store)
        if number % 25 == 0:
            line.is_good_answered()
    assert all(free.acquire(timeout=20.0) for _ in range(IN_FLIGHT))
    assert results == [True] * NUM_SETS
    assert seen == [(n % 50 + 1, (n % 50 + 1) / 100) for n in range(NUM_SETS)]
    facts = line.is_good_answered()
    assert (facts['interval'], line.count('processed')) == ('50', processed + NUM_SETS // 25 + 1)
    peer.destroy_client(client)


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('overlay.alpha', math.nan, 'overlay.alpha'),
        ('overlay.alpha', math.inf, 'overlay.alpha'),
        ('keyframe.interval', 0, 'keyframe.interval'),
        ('keyframe.interval', 'often', "expected 'Type.INTEGER'"),
        ('keyframe.scheduler', 'learned', 'it can serve'),
        ('bundle', 'other', 'deactivate and cleanup first'),
        ('autostart', False, 'read-only'),
        ('no_such_parameter', 1, 'no_such_parameter'),
    ],
    ids=[
        'NaN',
        'infinite',
        'out of range',
        'wrong type',
        'not served',
        'when running',
        'read-only',
        'unknown',
    ],
)
def test_a_refused_parameter_says_why_and_changes_nothing(line, name, value, reason):
    before = line.node._parameters_now.config
    (result,) = line.peer.call(
        SetParameters, service(line, 'set_parameters'), parameters=to_messages(**{name: value})
    ).results
    assert not result.successful
    assert reason in result.reason, result.reason
    assert line.node._parameters_now.config == before
    line.is_good_answered()


def test_of_an_atomic_set_with_one_bad_value_nothing_is_taken(line):
    before = line.node._parameters_now.config
    result = line.peer.call(
        SetParametersAtomically,
        service(line, 'set_parameters_atomically'),
        parameters=to_messages(keyframe__interval=7, overlay__alpha=2.0),
    ).result
    assert not result.successful and 'overlay.alpha' in result.reason
    assert line.node._parameters_now.config == before
    line.is_good_answered()


@pytest.mark.parametrize('name', ['reset', 'refresh'])
def test_a_service_in_the_wrong_state_says_so(line, name):
    assert line.node.trigger_deactivate() == SUCCESS
    response = line.peer.call(Trigger, service(line, name))
    assert (response.success, response.message) == (
        False,
        'nothing was done: the node is inactive, not active',
    )
    assert line.node.trigger_activate() == SUCCESS
    line.wait_until_found()
    line.is_good_answered()


def test_an_impossible_transition_is_refused(line, capfd):
    response = line.peer.call(
        ChangeState,
        service(line, 'change_state'),
        transition=Transition(id=Transition.TRANSITION_CONFIGURE),
    )
    assert not response.success
    assert 'is not possible while active; possible are deactivate' in capfd.readouterr().err
    line.is_good_answered()


def test_images_to_a_node_that_is_not_active_are_not_lost_count_of(line):
    """Nobody subscribes: the camera sees that, and the node counts nothing that it never got."""
    received = line.count('received')
    assert line.node.trigger_deactivate() == SUCCESS
    wait_until(lambda: line.peer.camera.get_subscription_count() == 0, 'the node to unsubscribe')
    for _ in range(3):
        line.peer.camera.publish(line.next_image())
    assert line.node.trigger_activate() == SUCCESS
    line.wait_until_found()
    line.is_good_answered()
    assert line.count('received') == received + 1


def node_report(messages: list[DiagnosticArray]) -> tuple[int, str, dict[str, str]]:
    """Level, message and values of the newest status of the node itself."""
    (status,) = (status for status in messages[-1].status if status.name.endswith(': node'))
    return status.level[0], status.message, {pair.key: pair.value for pair in status.values}


def test_a_second_node_of_the_same_name_is_told_and_both_answer(capfd):
    with ros_graph('twins') as graph:
        first = graph.start_node(FakeBackend())
        line = Line(graph, first, graph.start_peer(), FakeBackend())
        reports: list[DiagnosticArray] = []
        line.peer.create_subscription(DiagnosticArray, '/diagnostics', reports.append, 10)
        second = start_twin(graph)
        wait_until(lambda: any(r for r in reports if node_report([r])[2]['namesakes'] == '1'), 'the report')
        told = next(r for r in reports if node_report([r])[2]['namesakes'] == '1')
        level, message, _ = node_report([told])
        assert level == 1 and 'end all but one' in message
        assert '1 other node is named /twins/dff_node' in capfd.readouterr().err
        message = line.next_image()
        line.peer.camera.publish(message)
        line.peer.wait_for(
            lambda: sum(m.header == message.header for m in line.peer.label_maps) == 2, 'both answers'
        )
        graph.stop(second)
        reports.clear()
        wait_until(lambda: reports and node_report(reports)[2]['namesakes'] == '0', 'the all-clear')
        line.is_good_answered()


def start_twin(graph: Graph) -> DffNode:
    node = DffNode(open_model=fake_model(FakeBackend()), context=graph.context, namespace=graph.namespace)
    node.start(graph.exit_codes.append)
    graph.spin(node)
    return node
