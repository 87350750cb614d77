# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The executor thread of a node process ends, wherever it is when it is asked to."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from dff_ros.ros.process import Spinning

LIMIT_S = 20.0


@pytest.fixture
def node(ros_context):
    node = Node('spun', context=ros_context)
    yield node
    node.destroy_node()


def end(spinning: Spinning) -> threading.Thread:
    thread = threading.Thread(target=spinning.end, daemon=True)
    thread.start()
    return thread


def test_a_thread_that_waits_ends(node, ros_context):
    spinning = Spinning(node, context=ros_context)
    spinning.start()
    ran = threading.Event()
    spinning._executor.create_task(ran.set)
    assert ran.wait(LIMIT_S)
    ending = end(spinning)
    ending.join(LIMIT_S)
    assert not ending.is_alive()


def test_a_thread_that_is_about_to_wait_ends(node, ros_context, monkeypatch):
    """Between the check whether to go on and the wait for callbacks, everything that ends it happens."""
    spin_once = SingleThreadedExecutor.spin_once
    is_about_to, may_wait = threading.Event(), threading.Event()

    def late(executor):
        is_about_to.set()
        may_wait.wait(LIMIT_S)
        spin_once(executor)

    monkeypatch.setattr(SingleThreadedExecutor, 'spin_once', late)
    spinning = Spinning(node, context=ros_context)
    spinning.start()
    assert is_about_to.wait(LIMIT_S)
    ending = end(spinning)
    assert spinning._is_over.wait(LIMIT_S)
    may_wait.set()
    ending.join(LIMIT_S)
    assert not ending.is_alive()


def test_one_that_never_began_ends(node, ros_context):
    ending = end(Spinning(node, context=ros_context))
    ending.join(LIMIT_S)
    assert not ending.is_alive()


def test_an_error_of_a_callback_is_told(node, ros_context, capfd):
    failed = threading.Event()
    spinning = Spinning(node, failed.set, ros_context)
    node.create_timer(0.0, lambda: 1 / 0)
    spinning.start()
    assert failed.wait(LIMIT_S)
    spinning.end()
    assert 'ZeroDivisionError' in capfd.readouterr().err


def test_a_callback_that_fails_now_and_then_costs_itself_alone(node, ros_context, capfd):
    ended, went_on = threading.Event(), threading.Event()
    spinning = Spinning(node, ended.set, ros_context)
    calls: list[int] = []

    def fail_every_other_time() -> None:
        calls.append(len(calls))
        if len(calls) > 40:
            went_on.set()
        elif len(calls) % 2:
            raise ValueError(f'bad request {len(calls)}')

    node.create_timer(0.001, fail_every_other_time)
    spinning.start()
    assert went_on.wait(LIMIT_S)
    spinning.end()
    assert not ended.is_set()
    assert capfd.readouterr().err.count('ValueError: bad request') == 20


def test_values_of_no_type_are_refused_by_name_and_set_nothing(node, ros_context, capfd):
    """Asked more often in a row than callbacks may fail."""
    node.declare_parameter('rate', 30)
    ended = threading.Event()
    spinning = Spinning(node, ended.set, ros_context)
    client = Node('client', context=ros_context)
    caller = Spinning(client, context=ros_context)
    each = client.create_client(SetParameters, '/spun/set_parameters')
    atomic = client.create_client(SetParametersAtomically, '/spun/set_parameters_atomically')
    good = Parameter(name='rate', value=ParameterValue(type=2, integer_value=10))
    bad = Parameter(name='size', value=ParameterValue(type=77))
    for one in (spinning, caller):
        one.start()
    assert each.wait_for_service(LIMIT_S) and atomic.wait_for_service(LIMIT_S)
    reason = "'size' has a value of type 77, which ROS does not have"
    for _ in range(15):
        results = each.call(SetParameters.Request(parameters=[good, bad]), LIMIT_S).results
        assert [(result.successful, result.reason) for result in results] == [(False, reason)] * 2
        result = atomic.call(SetParametersAtomically.Request(parameters=[good, bad]), LIMIT_S).result
        assert (result.successful, result.reason) == (False, reason)
    assert node.get_parameter('rate').value == 30
    (result,) = each.call(SetParameters.Request(parameters=[good]), LIMIT_S).results
    assert (result.successful, node.get_parameter('rate').value) == (True, 10)
    for one in (caller, spinning):
        one.end()
    client.destroy_node()
    assert not ended.is_set()
    assert 'Traceback' not in capfd.readouterr().err
