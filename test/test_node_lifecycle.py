# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The lifecycle of the node: configure, activate, deactivate, cleanup, and failures on the way."""

from __future__ import annotations

import gc

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from ros_helpers import image_message, ros_graph, wait_until

from dff_ros.errors import BundleError, ConfigError
from dff_ros.ros.node import DffNode


def test_warm_up_comes_before_the_subscription_and_close_after_the_last_frame(graph):
    backend = FakeBackend()
    node = DffNode(
        open_model=graph_model(backend, lambda: node.count_subscribers('image')), context=graph.context
    )
    graph.spin(node)
    node.start(graph.exit_codes.append)
    assert backend.calls == ['subscribers at opening: 0', 'warm_up (32, 48)']
    graph.start_peer().ask(image_message(0))
    node.trigger_deactivate()
    assert backend.calls[2:] == ['extract 0']
    node.trigger_cleanup()
    assert backend.calls[3:] == ['close']
    assert graph.exit_codes == []


def graph_model(backend: FakeBackend, count_subscribers):
    from ros_helpers import fake_model

    def open_model(config):
        backend.calls.append(f'subscribers at opening: {count_subscribers()}')
        return fake_model(backend)(config)

    return open_model


def test_deactivate_stops_answering_and_activate_goes_on_with_the_same_model(graph):
    backend = FakeBackend()
    node = graph.start_node(backend)
    peer = graph.start_peer()
    peer.ask(image_message(0))
    assert node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    wait_until(lambda: peer.camera.get_subscription_count() == 0, 'the node to unsubscribe')
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    wait_until(lambda: peer.camera.get_subscription_count() == 1, 'the node to subscribe')
    answer = peer.ask(image_message(1))  # without stamps nothing else would tell of the pause
    assert (answer['state'], answer['reset_cause']) == ('key', 'requested')
    assert peer.ask(image_message(2))['state'] == 'propagated'
    assert [call for call in backend.calls if 'warm_up' in call] == ['warm_up (32, 48)']


def test_without_autostart_the_node_waits_for_its_manager(graph):
    backend = FakeBackend()
    node = graph.start_node(backend, autostart=False)
    assert backend.calls == []
    assert node.count_subscribers('image') == 0
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert graph.start_peer().ask(image_message(0))['state'] == 'key'


@pytest.mark.parametrize(
    'error', [BundleError('models/x: manifest.json is missing'), RuntimeError('out of memory')]
)
def test_a_model_that_does_not_open_ends_the_autostart_and_can_be_configured_again(graph, error):
    backend = FakeBackend()
    from ros_helpers import fake_model

    answers = [error, fake_model(backend)]

    def open_model(config):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(config)

    node = DffNode(open_model=open_model, context=graph.context)
    graph.spin(node)
    node.start(graph.exit_codes.append)
    assert graph.exit_codes == [2]
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert graph.start_peer().ask(image_message(0))['state'] == 'key'


def test_a_failing_warm_up_closes_the_backend_and_fails_the_configure(graph, monkeypatch):
    backend = FakeBackend()

    def fail(size):
        raise RuntimeError('no memory for warming up')

    monkeypatch.setattr(backend, 'warm_up', fail)
    graph.start_node(backend)
    assert graph.exit_codes == [2]
    assert backend.calls == ['close']


def test_parameters_that_do_not_fit_stop_the_node_from_being_made(graph):
    with pytest.raises(ConfigError, match='keyframe.interval'):
        graph.start_node(FakeBackend(), keyframe__interval=0)


def test_a_destroyed_node_leaves_the_graph_at_once(ros_context):
    gc.disable()  # a node is part of reference cycles
    try:
        probe = Node('probe', context=ros_context)
        own = ('dff_node', '/gone')  # another one may have been killed in this domain, and not given up yet
        with ros_graph('gone') as graph:
            graph.start_node(FakeBackend())
            wait_until(lambda: own in probe.get_node_names_and_namespaces(), 'the node')
        wait_until(lambda: own not in probe.get_node_names_and_namespaces(), 'the node to go')
        probe.destroy_node()
    finally:
        gc.enable()
