# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node as a process: signals in every state of its lifecycle, and what a kill leaves."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip('rclpy')
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from ros_helpers import TIMEOUT_S, Graph, Peer, image_message, ros_graph, stamp, wait_until
from stuck_node import OPENING

HERE = Path(__file__).parent
SIGNALS = (signal.SIGINT, signal.SIGTERM)
TO_STATE = {
    'unconfigured': (),
    'inactive': (Transition.TRANSITION_CONFIGURE,),
    'active': (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
}
_NAMESPACES = (f'process{number}' for number in itertools.count())

Starter = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts a module as a node in a process group of its own; what is left at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def make(module: str, namespace: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *module.split(), '--ros-args', '-r', f'__ns:=/{namespace}', *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            cwd=HERE.parent,
            env={**os.environ, 'PYTHONPATH': f'{HERE.parent}{os.pathsep}{HERE}'},
        )
        running.append(process)
        return process

    yield make
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture
def graph() -> Iterator[Graph]:
    with ros_graph(next(_NAMESPACES)) as found:
        yield found


def peer_of(graph: Graph) -> Peer:
    peer = Peer(graph.context, namespace=graph.namespace)
    graph.spin(peer)
    return peer


def end(process: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Exit code after a signal, and all it wrote; nothing of its group may be left."""
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    return process.returncode, output


def first_answer(peer: Peer, numbers: Iterator[int]) -> dict[str, str]:
    """Send images until one is answered by a process that may not have found the peer yet."""
    wait_until(peer.camera.get_subscription_count, 'the node to subscribe')
    num_before = len(peer.statuses)

    def is_answered() -> bool:
        peer.camera.publish(image_message(next(numbers) % 100, stamp_ns=stamp(next(numbers))))
        return len(peer.statuses) > num_before

    wait_until(is_answered, 'an answer')
    return peer.facts()[num_before]


def one_answer(peer: Peer, numbers: Iterator[int]) -> None:
    """Send an image and wait until it is answered."""
    number = next(numbers)
    peer.camera.publish(image_message(number % 100, stamp_ns=stamp(number)))
    peer.wait_for(lambda: peer.label_maps and stamp(number) in peer.stamps(), 'the answer')


@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize('state', TO_STATE)
def test_a_signal_ends_the_node_in_order(start, graph, state, number):
    peer = peer_of(graph)
    process = start('test/fake_node.py', graph.namespace, '-p', 'autostart:=false')
    name = f'/{graph.namespace}/dff_node'
    for transition in TO_STATE[state]:
        response = peer.call(ChangeState, f'{name}/change_state', transition=Transition(id=transition))
        assert response.success
    assert peer.call(GetState, f'{name}/get_state').current_state.label == state
    code, output = end(process, number)
    assert (code, 'Traceback' in output) == (0, False), output


def wait_for_opening(process: subprocess.Popen) -> None:
    """The middleware may say things of its own before, as of memory that a killed process left."""
    for line in process.stdout:
        if line.strip() == OPENING:
            return
    raise AssertionError('the node ended before it opened the model')


@pytest.mark.parametrize('number', SIGNALS, ids=lambda number: number.name)
def test_a_signal_while_configuring_ends_the_node_once_the_model_is_open(start, graph, number):
    process = start('test/stuck_node.py', graph.namespace)
    wait_for_opening(process)
    code, output = end(process, number)  # communicate closes its standard input
    assert (code, 'Traceback' in output) == (0, False), output


def test_a_second_signal_ends_a_node_that_is_stuck(start, graph):
    process = start('test/stuck_node.py', graph.namespace)
    wait_for_opening(process)
    process.send_signal(signal.SIGINT)

    def is_ended() -> bool:
        process.send_signal(signal.SIGTERM)  # soon after the first one it counts as its repeat
        return process.poll() is not None

    wait_until(is_ended, 'the end of the node')
    assert process.returncode == -signal.SIGTERM


def test_a_signal_in_the_middle_of_a_frame_ends_the_node_in_order(start, graph):
    peer, numbers = peer_of(graph), itertools.count()
    process = start('test/slow_fake_node.py', graph.namespace)
    first_answer(peer, numbers)
    peer.camera.publish(image_message(1, stamp_ns=stamp(next(numbers))))
    code, output = end(process, signal.SIGTERM)
    assert (code, 'Traceback' in output) == (0, False), output


def test_a_killed_node_answers_again_after_its_restart(start, graph):
    """The camera and the consumer stay; TIMEOUT_S is the longest start that the tests accept."""
    peer, numbers = peer_of(graph), itertools.count()
    process = start('test/fake_node.py', graph.namespace)
    assert first_answer(peer, numbers)['state'] == 'key'
    one_answer(peer, numbers)
    peer.wait_for(lambda: peer.label_infos, 'label_info')
    process.kill()
    assert process.wait(TIMEOUT_S) == -signal.SIGKILL
    process = start('test/fake_node.py', graph.namespace)
    # Its label_info comes once it and the consumer have found each other.
    peer.wait_for(lambda: len(peer.label_infos) == 2, 'label_info of the restarted node')
    again = first_answer(peer, numbers)
    assert (again['state'], again['reset_cause']) == ('key', '')
    one_answer(peer, numbers)
    assert [c.class_name for c in peer.label_infos[1].class_map] == ['road', 'car']
    assert end(process, signal.SIGTERM)[0] == 0


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (('-p', 'bundle:=no_such_model'), "there is no bundle 'no_such_model'"),
        (('-p', 'keyframe.interval:=0'), 'keyframe.interval'),
        (('-p', 'keyframe.interval:=often'), 'keyframe.interval takes an integer'),
        (('--params-file', 'no_such_file.yaml'), 'no_such_file.yaml'),
    ],
    ids=['no model', 'bad value', 'wrong type', 'no parameter file'],
)
def test_a_start_that_cannot_succeed_says_why_and_ends_with_2(start, graph, arguments, told):
    process = start('-m dff_ros.ros.node', graph.namespace, *arguments)
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, told in output, 'Traceback' in output) == (2, True, False), output
