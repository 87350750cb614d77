# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""How images come in: serialized, on a thread of their own, whatever bytes they are and whatever fails."""

from __future__ import annotations

import threading

import pytest

pytest.importorskip('rclpy')
import numpy as np
from fake_backend import FakeBackend
from rclpy.serialization import serialize_message
from ros_helpers import image_message, stamp, wait_until
from sensor_msgs.msg import Image
from test_serialized_image import serialized

from dff_ros.messages import stamp_to_ns
from dff_ros.ros import receiving
from dff_ros.ros.camera_topics import CameraTopics
from dff_ros.ros.receiving import image_of
from dff_ros.serialized_image import ImageFields

BIG, LITTLE = b'\x00\x00\x00\x00', b'\x00\x01\x00\x00'
ONE = (16, 16), 48, bytes([7]) * 768


def wire(head: bytes, number: int, **changes: object) -> bytes:
    """An image of 16 x 16 pixels, all `number`, with the stamp of that number."""
    fields = {
        'size': (16, 16),
        'step': 48,
        'data': bytes([number]) * 768,
        'stamp': divmod(stamp(number), 10**9),
    }
    return serialized(head, **(fields | changes))


@pytest.mark.parametrize('frame_id', ['', 'left', 'Stra\u00dfe'])
def test_what_rclpy_writes_is_read_alike(frame_id):
    message = image_message(3, frame_id=frame_id)
    found = image_of(bytes(serialize_message(message)))
    assert isinstance(found, ImageFields)
    assert found.header == message.header
    for name in ('height', 'width', 'encoding', 'is_bigendian', 'step'):
        assert getattr(found, name) == getattr(message, name)
    np.testing.assert_array_equal(np.frombuffer(found.data, np.uint8), np.frombuffer(message.data, np.uint8))


def test_what_is_no_plain_cdr_is_left_to_rclpy(monkeypatch):
    monkeypatch.setattr(receiving, 'is_plain_cdr', lambda message: False)
    message = image_message(3)
    found = image_of(bytes(serialize_message(message)))
    assert isinstance(found, Image)
    assert found == message


def test_both_byte_orders_are_answered_and_broken_messages_dropped(graph):
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    facts = [peer.ask(wire(BIG, 1)), peer.ask(wire(LITTLE, 2))]
    facts += [peer.ask(wire(LITTLE, 3, num_bytes=2**31)), peer.ask(wire(LITTLE, 4)[:40])]
    facts += [peer.ask(wire(LITTLE, 5))]
    assert [fact['state'] for fact in facts] == ['key', 'propagated', 'dropped', 'dropped', 'propagated']
    assert [fact['reason'] for fact in facts[2:4]] == ['conversion'] * 2
    assert all('the image message is truncated' in fact['detail'] for fact in facts[2:4])
    assert (facts[4]['received'], facts[4]['dropped.conversion']) == ('5', '2')
    peer.wait_for(lambda: len(peer.label_maps) == 3, 'the label maps')
    assert peer.stamps() == [stamp(1), stamp(2), stamp(5)]
    assert stamp_to_ns(peer.statuses[-1].header.stamp) == stamp(5)


def test_images_come_on_a_thread_of_their_own_which_ends_with_the_subscription(graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    peer.ask(image_message(0))
    before = receivers()
    assert len(before) == 1
    node.trigger_deactivate()
    assert not before[0].is_alive()
    node.trigger_activate()
    wait_until(peer.camera.get_subscription_count, 'the node to subscribe')
    assert peer.ask(image_message(1))['state'] == 'key'
    assert len(receivers()) == 1


def receivers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == 'receiver']


def test_an_error_in_a_callback_costs_one_image(graph, monkeypatch, capsys):
    store = CameraTopics._store
    failed = threading.Event()

    def fail_once(topics: CameraTopics, message: bytes) -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError('no room')
        store(topics, message)

    monkeypatch.setattr(CameraTopics, '_store', fail_once)
    monkeypatch.setattr(receiving, '_PAUSE_S', 0.001)
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    peer.camera.publish(image_message(0))
    assert failed.wait(10)
    assert peer.ask(image_message(1))['received'] == '1'
    assert 'RuntimeError: no room' in capsys.readouterr().err
