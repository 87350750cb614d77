# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`~/reset`, `~/refresh`, `~/enable` over real DDS: what is done, what is said, and in which states."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.lifecycle import TransitionCallbackReturn
from ros_helpers import GatedBackend, Peer, image_message, wait_until
from std_srvs.srv import SetBool, Trigger

SUCCESS = TransitionCallbackReturn.SUCCESS


def trigger(peer: Peer, service: str) -> tuple[bool, str]:
    response = peer.call(Trigger, f'/dff_node/{service}')
    return response.success, response.message


def enable(peer: Peer, value: bool) -> tuple[bool, str]:
    response = peer.call(SetBool, '/dff_node/enable', data=value)
    return response.success, response.message


def test_reset_begins_afresh_and_refresh_makes_a_key_frame(graph):
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    answers = [peer.ask(image_message(n)) for n in range(2)]
    assert trigger(peer, 'reset') == (
        True,
        '1 camera: key frames are dropped, the next image of each begins afresh',
    )
    answers += [peer.ask(image_message(n)) for n in (2, 3)]
    assert trigger(peer, 'refresh') == (True, '1 camera: the next image of each becomes a key frame')
    answers += [peer.ask(image_message(n)) for n in (4, 5)]
    told = [(a['state'], a['reason'], a['reset_cause']) for a in answers]
    within = ('propagated', 'within_interval', '')
    keys = [('key', 'no_key', ''), ('key', 'no_key', 'requested'), ('key', 'requested', '')]
    assert told == [keys[0], within, keys[1], within, keys[2], within]
    assert answers[-1]['resets.requested'] == '1'


def test_refresh_is_for_every_camera_and_does_not_wait_for_the_worker(graph):
    graph.start_node(FakeBackend(), refresh_backend=FakeBackend(), cameras=['front', 'rear'])
    front, rear = graph.start_peer(camera='front'), graph.start_peer(camera='rear')
    for peer in (front, rear):
        peer.ask(image_message(0))
    assert trigger(front, 'refresh')[1] == '2 cameras: the next image of each becomes a key frame'
    for peer in (front, rear):
        answer = peer.ask(image_message(1))
        assert (answer['state'], answer['reason'], answer['age_frames']) == ('key', 'requested', '0')


def test_a_disabled_node_drops_at_once_computes_nothing_and_goes_on_afresh(graph):
    backend = GatedBackend()
    node = graph.start_node(backend)
    peer = graph.start_peer()
    peer.ask(image_message(0))
    backend.gate.clear()
    backend.entered.acquire()  # of image 0
    peer.camera.publish(image_message(1))
    assert backend.entered.acquire(timeout=20)
    peer.camera.publish(image_message(2))  # waits behind 1
    wait_until(lambda: node._mailbox.counts().pending == 2, 'image 2 to come')
    assert enable(peer, False) == (True, '1 camera: disabled')
    assert node._mailbox.counts().dropped == {'disabled': 1}
    backend.gate.set()
    peer.wait_for(lambda: len(peer.statuses) == 2, 'the answer to the image in hand')
    calls = list(backend.calls)
    for number in (3, 4):
        peer.camera.publish(image_message(number))
        wait_until(lambda n=number: node._mailbox.counts().received == n + 1, f'image {number}')
    assert enable(peer, False) == (True, '1 camera: disabled already')
    assert trigger(peer, 'reset') == (
        False,
        'nothing was done: the node is disabled (~/enable), and goes on afresh anyway',
    )
    assert (backend.calls, len(peer.statuses)) == (calls, 2)
    assert enable(peer, True) == (True, '1 camera: enabled')
    answer = peer.ask(image_message(5))
    assert (answer['state'], answer['reset_cause']) == ('key', 'requested')
    assert (answer['received'], answer['processed'], answer['dropped.disabled']) == ('6', '3', '3')


def test_every_state_has_an_answer(graph):
    node = graph.start_node(FakeBackend(), autostart=False)
    peer = Peer(graph.context)
    graph.spin(peer)

    def answers() -> list[str]:
        texts = [trigger(peer, 'reset'), trigger(peer, 'refresh'), enable(peer, False), enable(peer, True)]
        assert [success for success, _ in texts] == [False, False, True, True]
        return [text for _, text in texts]

    for steps, state in (
        ([], 'unconfigured'),
        ([node.trigger_configure], 'inactive'),
        ([node.trigger_activate, node.trigger_deactivate], 'inactive'),
        ([node.trigger_cleanup], 'unconfigured'),
        ([node.trigger_shutdown], 'finalized'),
    ):
        assert [step() for step in steps] == [SUCCESS] * len(steps)
        holds = f'; the node is {state}: it holds once it is active'
        assert answers() == [
            f'nothing was done: the node is {state}, not active',
            f'nothing was done: the node is {state}, not active',
            f'1 camera: disabled{holds}',
            f'1 camera: enabled{holds}',
        ]


def test_disabled_before_it_is_configured_holds_once_it_is_active(graph):
    node = graph.start_node(FakeBackend(), autostart=False)
    peer = Peer(graph.context)
    graph.spin(peer)
    enable(peer, False)
    assert (node.trigger_configure(), node.trigger_activate()) == (SUCCESS, SUCCESS)
    wait_until(lambda: peer.camera.get_subscription_count(), 'the node to subscribe')
    peer.camera.publish(image_message(0))
    wait_until(lambda: node._mailbox.counts().received, 'the image to come')
    assert node._mailbox.counts().dropped == {'disabled': 1}
