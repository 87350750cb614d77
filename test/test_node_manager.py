# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Driven over DDS as lifecycle managers do: change_state, then get_state, in and out of turn."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from ros_helpers import GatedBackend, Peer, fake_model, image_message, wait_until

from dff_ros.errors import BundleError
from dff_ros.ros.node import DffNode

CONFIGURE, CLEANUP = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP
ACTIVATE, DEACTIVATE = Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE
UNCONFIGURED, INACTIVE, ACTIVE, FINALIZED = (
    State.PRIMARY_STATE_UNCONFIGURED, State.PRIMARY_STATE_INACTIVE, State.PRIMARY_STATE_ACTIVE,
    State.PRIMARY_STATE_FINALIZED,
)  # fmt: skip
SHUTDOWN = {
    UNCONFIGURED: Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,
    INACTIVE: Transition.TRANSITION_INACTIVE_SHUTDOWN,
    ACTIVE: Transition.TRANSITION_ACTIVE_SHUTDOWN,
}
POSSIBLE = {
    UNCONFIGURED: {CONFIGURE, SHUTDOWN[UNCONFIGURED]},
    INACTIVE: {CLEANUP, ACTIVATE, SHUTDOWN[INACTIVE]},
    ACTIVE: {DEACTIVATE, SHUTDOWN[ACTIVE]},
    FINALIZED: set(),
}
WAYS = {UNCONFIGURED: [], INACTIVE: [CONFIGURE], ACTIVE: [CONFIGURE, ACTIVATE]}


class Manager:
    """A node that asks for transitions and for the state after each."""

    def __init__(self, graph) -> None:
        self.peer = Peer(graph.context)
        graph.spin(self.peer)

    def change(self, transition: int) -> tuple[bool, int]:
        """Whether the node says that it did it, and the state that it is in then."""
        asked = Transition(id=transition)
        success = self.peer.call(ChangeState, '/dff_node/change_state', transition=asked).success
        return success, self.state()

    def state(self) -> int:
        return self.peer.call(GetState, '/dff_node/get_state').current_state.id


def test_a_manager_brings_it_up_pauses_it_and_takes_it_down(graph):
    backend = FakeBackend()
    graph.start_node(backend, autostart=False)
    manager = Manager(graph)
    assert manager.state() == UNCONFIGURED
    up = [(CONFIGURE, INACTIVE), (ACTIVATE, ACTIVE)]
    down = [(DEACTIVATE, INACTIVE), (CLEANUP, UNCONFIGURED)]
    for transition, state in up:
        assert manager.change(transition) == (True, state)
    assert graph.start_peer().ask(image_message(0))['state'] == 'key'
    for transition, state in [(DEACTIVATE, INACTIVE), (ACTIVATE, ACTIVE), *down, *up, *down]:
        assert manager.change(transition) == (True, state)
    assert manager.change(SHUTDOWN[UNCONFIGURED]) == (True, FINALIZED)
    assert [call for call in backend.calls if call == 'close'] == ['close'] * 2


def test_what_is_not_possible_is_refused_in_every_state_and_changes_nothing(graph, capfd):
    node = graph.start_node(FakeBackend(), autostart=False)
    manager = Manager(graph)
    for transition, state in (
        (None, UNCONFIGURED),
        (CONFIGURE, INACTIVE),
        (ACTIVATE, ACTIVE),
        (None, FINALIZED),
    ):
        if state == FINALIZED:
            node.trigger_shutdown()
        elif transition is not None:
            assert manager.change(transition) == (True, state)
        for other in {CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, 99, *SHUTDOWN.values()} - POSSIBLE[state]:
            assert manager.change(other) == (False, state)
    errors = capfd.readouterr().err
    assert (
        'transition number 3 is not possible while unconfigured; possible are configure, shutdown' in errors
    )
    assert 'Traceback' not in errors


@pytest.mark.parametrize('state', WAYS, ids=['unconfigured', 'inactive', 'active'])
def test_shutdown_from_every_state_frees_the_model_and_answers_the_image_in_hand(graph, state):
    backend = GatedBackend()
    graph.start_node(backend, autostart=False)
    manager = Manager(graph)
    for transition in WAYS[state]:
        manager.change(transition)
    if state == ACTIVE:
        peer = graph.start_peer()
        backend.gate.clear()
        peer.camera.publish(image_message(0))
        assert backend.entered.acquire(timeout=20)
        backend.gate.set()
    assert manager.change(SHUTDOWN[state]) == (True, FINALIZED)
    assert backend.calls.count('close') == (state != UNCONFIGURED)
    if state == ACTIVE:
        peer.wait_for(lambda: peer.statuses, 'the answer to the image in hand')
        assert peer.facts()[0]['state'] == 'key'


def test_a_model_that_is_gone_at_the_second_configure_comes_back(graph, capfd):
    opened: list[str] = []
    missing = [False]

    def open_model(config):
        opened.append(config.bundle)
        if missing[0]:
            raise BundleError('models/x: manifest.json is missing')
        return fake_model(FakeBackend())(config)

    node = DffNode(
        open_model=open_model,
        context=graph.context,
        parameter_overrides=[Parameter('autostart', value=False)],
    )
    graph.spin(node)
    manager = Manager(graph)
    assert [manager.change(transition)[0] for transition in (CONFIGURE, CLEANUP)] == [True, True]
    missing[0] = True
    assert manager.change(CONFIGURE) == (False, UNCONFIGURED)
    assert 'dff_node could not be configured: models/x: manifest.json is missing' in capfd.readouterr().err
    missing[0] = False
    assert manager.change(CONFIGURE) == (True, INACTIVE)
    assert manager.change(ACTIVATE) == (True, ACTIVE)
    assert len(opened) == 3


def test_a_second_camera_that_cannot_be_subscribed_leaves_none_subscribed(graph, monkeypatch):
    node = graph.start_node(FakeBackend(), autostart=False, cameras=['front', 'rear'])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    manager = Manager(graph)
    create_subscription = node.create_subscription

    def fail(kind, topic, *args, **options):
        if topic == 'rear/image':
            raise RuntimeError('no more topics')
        return create_subscription(kind, topic, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(node, 'create_subscription', fail)
        assert manager.change(ACTIVATE) == (False, INACTIVE)
    wait_until(lambda: node.count_subscribers('front/image') == 0, 'the first camera to be let go')
    assert manager.change(ACTIVATE) == (True, ACTIVE)
    assert {node.count_subscribers(f'{camera}/image') for camera in ('front', 'rear')} == {1}


def test_parameters_change_in_every_state_or_are_refused_with_the_reason(graph):
    node = graph.start_node(FakeBackend(), autostart=False)
    manager = Manager(graph)
    for interval, transition in enumerate([None, CONFIGURE, ACTIVATE, DEACTIVATE, CLEANUP], start=2):
        if transition is not None:
            assert manager.change(transition)[0]
        is_unconfigured = manager.state() == UNCONFIGURED
        results = node.set_parameters(
            [Parameter('keyframe.interval', value=interval), Parameter('num_threads', value=interval)]
        )
        assert [result.successful for result in results] == [True, is_unconfigured]
        if not is_unconfigured:
            assert results[1].reason.endswith('while the node is unconfigured: deactivate and cleanup first')
        assert node._parameters_now.config.keyframe.interval == interval
    assert node.get_parameter('num_threads').value == 6


def test_an_error_on_the_way_down_is_logged_and_leaves_a_node_that_can_be_configured(
    graph, monkeypatch, capfd
):
    backend = FakeBackend()
    node = graph.start_node(backend)
    manager = Manager(graph)

    def fail(reason: str) -> None:
        raise RuntimeError('the mailbox is jammed')

    monkeypatch.setattr(node._mailbox, 'clear', fail)
    assert manager.change(DEACTIVATE) == (False, UNCONFIGURED)
    assert 'dff_node could not be deactivated' in capfd.readouterr().err
    assert backend.calls[-1] == 'close'
    assert [manager.change(transition)[0] for transition in (CONFIGURE, ACTIVATE)] == [True, True]
    assert graph.start_peer().ask(image_message(0))['state'] == 'key'
