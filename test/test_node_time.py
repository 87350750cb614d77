# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Time: simulated, looping, jumping, standing still, or none at all; the schedule follows stamps alone."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from ros_helpers import Peer, image_message, wait_until
from rosgraph_msgs.msg import Clock

from dff_ros.ros.conversions import ns_to_stamp

S = 1_000_000_000
T0 = 1_000 * S


def ask_all(peer: Peer, stamps_s: list[float]) -> list[dict[str, str]]:
    """The statuses of images with these stamps, in seconds after T0; None: stamp 0."""
    return [
        peer.ask(image_message(number % 200, stamp_ns=0 if after is None else T0 + round(after * S)))
        for number, after in enumerate(stamps_s)
    ]


def told(answers: list[dict[str, str]], *names: str) -> list[tuple[str, ...]]:
    return [tuple(answer.get(name, '') for name in names) for answer in answers]


def stamps_of(answer: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in answer.items() if name.startswith('stamps.')}


class SimulatedClock:
    """Publishes /clock, and waits until a node has taken it."""

    def __init__(self, graph, node) -> None:
        self._peer = Peer(graph.context)
        graph.spin(self._peer)
        self._publisher = self._peer.create_publisher(Clock, '/clock', QoSProfile(depth=1))
        self._node = node
        wait_until(self._publisher.get_subscription_count, 'the node to take /clock')

    def set(self, time_ns: int) -> None:
        self._publisher.publish(Clock(clock=ns_to_stamp(time_ns)))
        wait_until(lambda: self._node.get_clock().now().nanoseconds == time_ns, f'time {time_ns}')


def test_a_bag_that_loops_pauses_and_jumps_in_simulated_time(graph, capfd):
    node = graph.start_node(FakeBackend(), use_sim_time=True, keyframe__interval=3)
    peer = graph.start_peer()
    clock = SimulatedClock(graph, node)
    clock.set(T0)
    answers = ask_all(peer, [0, 0.1, 0.2])
    clock.set(T0)  # the bag begins anew, and its clock with it
    answers += ask_all(peer, [0, 0.1, 0.1, 0.2])
    clock.set(T0 + 60 * S)  # skipped forward
    answers += ask_all(peer, [60, 60.1])
    assert told(answers, 'state', 'reset_cause') == [
        ('key', ''), ('propagated', ''), ('propagated', ''),
        ('key', 'backward_stamp'), ('propagated', ''), ('dropped', ''), ('propagated', ''),
        ('key', 'gap'), ('propagated', ''),
    ]  # fmt: skip
    assert stamps_of(answers[-1]) == {
        'stamps.backward': 1, 'stamps.duplicate': 1, 'stamps.forward_jump': 1,
    }  # fmt: skip
    assert "the node's clock" not in capfd.readouterr().err


def test_a_replay_in_simulated_time_gives_the_key_frames_of_the_live_run(graph):
    """Whatever the clock says: stopped, a day behind, or none."""
    live = graph.start_node(FakeBackend(), keyframe__scheduler='period', keyframe__period_s=0.35)
    peer = graph.start_peer()
    stamps_s = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.45, 0.6, 3.0, 3.1, None, 3.5]
    expected = told(ask_all(peer, stamps_s), 'state', 'reason', 'age_s', 'reset_cause')
    assert [state for state, *_ in expected].count('key') == 5
    live.trigger_deactivate()
    live.trigger_cleanup()
    live.set_parameters([Parameter('use_sim_time', value=True)])
    live.trigger_configure()
    live.trigger_activate()
    wait_until(lambda: peer.camera.get_subscription_count() == 1, 'the node to subscribe')
    wait_until(lambda: graph._are_outputs_matched(''), 'the outputs to match')
    assert told(ask_all(peer, stamps_s), 'state', 'reason', 'age_s', 'reset_cause') == expected


def test_a_camera_without_stamps_is_noted_once_and_key_frames_follow_from_numbers(graph, capfd):
    graph.start_node(FakeBackend(), keyframe__interval=3, keyframe__max_age_s=0.01)
    answers = ask_all(graph.start_peer(), [None] * 7)
    assert [state for (state,) in told(answers, 'state')] == [
        'key', 'propagated', 'propagated', 'key', 'propagated', 'propagated', 'key',
    ]  # fmt: skip
    assert told(answers, 'age_s') == [('0.000',)] * 7
    assert stamps_of(answers[-1]) == {'stamps.zero': 7}
    errors = capfd.readouterr().err
    assert errors.count('images have stamp 0') == 1
    assert "the node's clock" not in errors


@pytest.mark.parametrize(
    ('offset_s', 'kind', 'words'),
    [(3600, 'future', "3600.0 s ahead of the node's clock"), (-90, 'past', "90.0 s behind the node's clock")],
)
def test_stamps_of_another_clock_are_noted_once_and_change_nothing(graph, capfd, offset_s, kind, words):
    node = graph.start_node(FakeBackend(), use_sim_time=True)
    peer = graph.start_peer()
    SimulatedClock(graph, node).set(T0)
    answers = ask_all(peer, [offset_s + tenth / 10 for tenth in range(3)])
    assert told(answers, 'state', 'reset_cause') == [('key', ''), ('propagated', ''), ('propagated', '')]
    assert stamps_of(answers[-1]) == {f'stamps.{kind}': 3}
    errors = capfd.readouterr().err
    assert errors.count(words) == errors.count("the node's clock") == 1


def test_one_stamp_from_the_future_costs_two_key_frames(graph):
    graph.start_node(FakeBackend())
    answers = ask_all(graph.start_peer(), [0, 0.1, 1e6, 0.2, 0.3])
    assert told(answers, 'state', 'reset_cause') == [
        ('key', ''), ('propagated', ''), ('key', 'gap'), ('key', 'backward_stamp'), ('propagated', ''),
    ]  # fmt: skip
    found = stamps_of(answers[-1])
    assert (found['stamps.forward_jump'], found['stamps.backward']) == (1, 1)
