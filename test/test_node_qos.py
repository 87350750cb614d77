# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Overrides of quality of service: a bad one is named, and set right without a restart."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_helpers import image_message, wait_until

from dff_ros.ros.node import DffNode
from dff_ros.ros.publishers import Publishers

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
DEPTH = 'qos_overrides./dff/segmentation.publisher.depth'
RELIABILITY = 'qos_overrides./image.subscription.reliability'
HISTORY = 'qos_overrides./dff/status.publisher.history'


@pytest.mark.parametrize(
    ('name', 'bad', 'good', 'complaint'),
    [
        (DEPTH, 'abc', 3, "got 'abc', expected int (from 1 to 10000)"),
        (DEPTH, -3, 3, 'got -3, allowed is from 1 to 10000'),
        (DEPTH, 0, 3, 'got 0, allowed is from 1 to 10000'),
        (RELIABILITY, 'foo', 'reliable', 'allowed is one of system_default, reliable, best_effort'),
        (RELIABILITY, 1, 'reliable', 'expected str (one of system_default, reliable'),
        (HISTORY, 'unknown', 'keep_last', 'allowed is one of system_default, keep_last, keep_all'),
    ],
)
def test_a_bad_override_fails_the_configure_by_name_and_can_be_set_right(
    graph, capfd, name, bad, good, complaint
):
    backend = FakeBackend()
    node = graph.start_node(backend, **{name: bad})
    assert graph.exit_codes == [2]
    (line,) = [line for line in capfd.readouterr().err.splitlines() if '[FATAL]' in line]
    assert f'{name}: got {bad!r}' in line
    assert complaint in line
    assert backend.calls == []
    assert not any(map(node.count_publishers, Publishers.PROFILES))
    assert node.trigger_configure() == FAILURE  # again, not an error of the lifecycle

    assert node.set_parameters([Parameter(name, value=good)])[0].successful
    assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)
    assert graph.start_peer().ask(image_message(0))['state'] == 'key'


def test_an_override_changes_while_unconfigured_only(graph):
    node = graph.start_node(FakeBackend())
    (refused,) = node.set_parameters([Parameter(RELIABILITY, value='reliable')])
    assert (refused.successful, refused.reason.split(': ')[-1]) == (False, 'deactivate and cleanup first')
    node.trigger_deactivate()
    assert not node.set_parameters([Parameter('bundle', value='other')])[0].successful  # inactive
    node.trigger_cleanup()
    assert node.set_parameters([Parameter(RELIABILITY, value='reliable')])[0].successful
    assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)

    def reliabilities() -> list[str]:
        endpoints = node.get_subscriptions_info_by_topic('/image')
        return [endpoint.qos_profile.reliability.name for endpoint in endpoints]

    # The graph may still list the subscription that was destroyed.
    wait_until(lambda: reliabilities() == ['RELIABLE'], 'one reliable subscription')
    assert reliabilities() == ['RELIABLE']


def test_a_bad_bundle_is_replaced_without_a_restart(graph):
    from ros_helpers import fake_model

    asked: list[str] = []

    def open_model(config):
        asked.append(config.bundle)
        if config.bundle == 'bad':
            raise RuntimeError('damaged')
        return fake_model(FakeBackend())(config)

    bad = Parameter('bundle', value='bad')
    node = DffNode(open_model=open_model, context=graph.context, parameter_overrides=[bad])
    graph.spin(node)
    node.start(graph.exit_codes.append)
    assert node.set_parameters([Parameter('bundle', value='good')])[0].successful
    assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)
    assert asked == ['bad', 'good']


def test_publishers_made_before_a_failing_one_are_destroyed(graph, monkeypatch, capfd):
    node = graph.start_node(FakeBackend(), autostart=False)
    create_publisher = node.create_publisher

    def fail_on_status(kind, topic, *args, **options):
        if topic == 'dff/status':
            raise RuntimeError('no more topics')
        return create_publisher(kind, topic, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(node, 'create_publisher', fail_on_status)
        assert node.trigger_configure() == FAILURE
    assert 'no more topics' in capfd.readouterr().err
    assert not any(map(node.count_publishers, Publishers.PROFILES))
    assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)


def test_a_subscription_that_fails_leaves_an_inactive_node_that_can_be_activated(graph, monkeypatch, capfd):
    node = graph.start_node(FakeBackend(), autostart=False)
    assert node.trigger_configure() == SUCCESS

    def fail(*args, **options):
        raise RuntimeError('no more topics')

    with monkeypatch.context() as patch:
        patch.setattr(node, 'create_subscription', fail)
        assert node.trigger_activate() == FAILURE
    assert 'dff_node could not be activated' in capfd.readouterr().err
    assert node.trigger_activate() == SUCCESS
    assert graph.start_peer().ask(image_message(0))['state'] == 'key'
