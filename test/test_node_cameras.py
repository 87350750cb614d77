# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Many cameras in one node over real DDS, on a backend whose answers name camera, key frame and frame."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy')
from naming_backend import NamingBackend, Origin, named_image, read_answer
from numpy.typing import NDArray
from rclpy.lifecycle import TransitionCallbackReturn
from ros_helpers import TIMEOUT_S, Graph, Peer, stamp, wait_until
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.ros.conversions import fill_image, ns_to_stamp
from dff_ros.ros.node import DffNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
NAMES = ['front', 'left', 'right', 'rear']


def message(camera: int, number: int) -> Image:
    """The number-th image of a camera; all cameras give theirs at the same time."""
    header = Header(stamp=ns_to_stamp(stamp(number)), frame_id=f'{NAMES[camera]}_optical')
    return fill_image(Image(), header, named_image(camera, number))


def answers(peer: Peer) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """(camera, number) of the key frame and of the frame of each label map so far."""
    with peer.news:
        return [read_answer(np.frombuffer(m.data, np.uint8).reshape(32, 48)) for m in peer.label_maps]


class TurnBackend(NamingBackend):
    """Works on a frame only when given a turn; `begun` are those begun so far, by (camera, number)."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[int, int]] = []
        self.news = threading.Condition()
        self._turns = threading.Semaphore(0)

    def give(self, turns: int) -> None:
        for _ in range(turns):
            self._turns.release()

    def wait_for(self, num_begun: int) -> None:
        with self.news:
            assert self.news.wait_for(lambda: len(self.begun) >= num_begun, TIMEOUT_S), self.begun

    def _see(self, image_HW3: NDArray[np.uint8]) -> Origin:
        origin = super()._see(image_HW3)
        with self.news:
            self.begun.append((origin.camera, origin.number))
            self.news.notify_all()
        if not self._turns.acquire(timeout=TIMEOUT_S):
            raise RuntimeError('the test gave no turn')
        return origin


def start(graph: Graph, backend: NamingBackend, **parameters: object) -> tuple[DffNode, list[Peer]]:
    node = graph.start_node(backend, cameras=NAMES, **parameters)
    return node, [graph.start_peer(camera=name) for name in NAMES]


def put(node: DffNode, peer: Peer, image: Image) -> None:
    """Publish an image and wait until the node has received it."""
    before = node._mailbox.counts(peer.camera_name).received
    peer.camera.publish(image)
    wait_until(lambda: node._mailbox.counts(peer.camera_name).received > before, f'{peer.camera_name}')


def test_each_camera_is_answered_below_its_own_name(graph):
    node, peers = start(graph, NamingBackend(), keyframe__interval=100)
    for number in range(3):
        for camera, peer in enumerate(peers[:3]):
            facts = peer.ask(message(camera, number))
            assert (facts['camera'], facts['received']) == (NAMES[camera], str(number + 1))
    for camera, peer in enumerate(peers[:3]):
        assert answers(peer) == [((camera, 0), (camera, number)) for number in range(3)]
        assert peer.stamps() == [stamp(number) for number in range(3)]
        assert {m.header.frame_id for m in peer.label_maps} == {f'{NAMES[camera]}_optical'}
        assert {s.status[0].name for s in peer.statuses} == {f'dff_node: {NAMES[camera]}'}
        assert [c.class_name for c in peer.label_infos[0].class_map] == ['road', 'car']
    assert (peers[3].label_maps, peers[3].statuses) == ([], [])
    published = {name for name, _ in node.get_topic_names_and_types()}
    assert '/dff/status' not in published and '/image' not in published


def test_key_frames_of_equal_cameras_do_not_coincide(graph):
    _, peers = start(graph, NamingBackend(), keyframe__interval=8)
    keys: list[list[int]] = [[] for _ in peers]
    for number in range(17):
        for camera, peer in enumerate(peers):
            if peer.ask(message(camera, number))['is_key'] == 'true':
                keys[camera].append(number)
    assert keys == [[0, 8, 16], [0, 6, 14], [0, 4, 12], [0, 2, 10]]


def test_a_machine_at_half_speed_gives_each_camera_its_share(graph):
    backend = TurnBackend()
    node, peers = start(graph, backend)
    for number in range(20):
        for camera, peer in enumerate(peers):
            put(node, peer, message(camera, number))
            if number == camera == 0:
                backend.wait_for(1)
        backend.give(2)  # two answers in the time in which each camera gives an image
        backend.wait_for(1 + 2 * (number + 1))
    backend.give(4)
    wait_until(lambda: node._mailbox.counts().pending == 0, 'the last answer')
    for camera, peer in enumerate(peers):
        counts = node._mailbox.counts(NAMES[camera])
        assert 10 <= counts.processed <= 11  # its share, and what waited at the end
        assert (counts.received, counts.dropped) == (20, {'superseded': 20 - counts.processed})
        peer.wait_for(lambda p=peer, n=counts.processed: len(p.statuses) == n, 'every status')
        assert peer.facts()[-1]['processed'] == str(counts.processed)
        assert all(key[0] == camera == frame[0] for key, frame in answers(peer))


def test_one_camera_floods_one_sends_rubbish_one_is_dead_and_the_others_are_answered(graph):
    backend = TurnBackend()
    node, peers = start(graph, backend)
    front, flood, rubbish, dead = peers
    broken = message(2, 0)
    broken.encoding = 'yuv420'
    put(node, front, message(0, 0))
    backend.wait_for(1)
    for number in range(1, 6):
        for index in range(10):
            put(node, flood, message(1, 10 * number + index))
        for _ in range(3):
            put(node, rubbish, broken)
        put(node, front, message(0, number))
        backend.give(2)
        backend.wait_for(1 + 2 * number)  # the flooding camera's newest, then this one
    backend.give(1)
    front.wait_for(lambda: len(front.statuses) == 6, 'every image of the good camera')
    assert [frame for _, frame in answers(front)] == [(0, number) for number in range(6)]
    assert front.facts()[-1]['dropped'] == '0'
    flood.wait_for(lambda: len(flood.statuses) == 5, 'the answers to the flood')
    assert [frame for _, frame in answers(flood)] == [(1, 10 * number + 9) for number in range(1, 6)]
    assert flood.facts()[-1]['dropped.superseded'] == '45'
    rubbish.wait_for(lambda: len(rubbish.statuses) == 5, 'the drops')
    last = rubbish.facts()[-1]
    assert (last['processed'], last['dropped.conversion'], last['dropped.superseded']) == ('0', '5', '10')
    assert dead.statuses == []


def test_an_error_in_one_camera_costs_that_one_its_key_frame(graph):
    backend = NamingBackend()
    backend.failing = {(1, 2)}
    _, peers = start(graph, backend, keyframe__interval=100)
    for number in range(4):
        for camera, peer in enumerate(peers):
            peer.ask(message(camera, number))
    assert [facts['state'] for facts in peers[1].facts()] == ['key', 'propagated', 'dropped', 'key']
    for camera in (0, 2, 3):
        assert [key for key, _ in answers(peers[camera])] == [(camera, 0)] * 4
        assert peers[camera].facts()[-1]['dropped'] == '0'


def test_a_camera_that_stops_changes_nothing_for_the_others_and_comes_back(graph):
    _, peers = start(graph, NamingBackend(), keyframe__interval=4)
    for number in range(12):
        for camera, peer in enumerate(peers):
            if camera != 1 or not 3 <= number < 9:
                peer.ask(message(camera, number))
    ages = [[int(facts['age_frames']) for facts in peer.facts()] for peer in peers]
    assert ages[0] == [0, 1, 2, 3] * 3
    assert ages[2] == [0, 1, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert ages[3] == [0, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2]
    assert ages[1] == [0, 1, 2, 0, 1, 2]  # six images; its interval counts its own


def test_overrides_of_quality_of_service_are_those_of_a_camera(graph):
    name = 'qos_overrides./left/image.subscription.reliability'
    node, _ = start(graph, NamingBackend(), **{name: 'reliable'})
    found = {
        camera: node.get_subscriptions_info_by_topic(f'/{camera}/image')[0].qos_profile.reliability.name
        for camera in NAMES
    }
    assert found == {name: 'RELIABLE' if name == 'left' else 'BEST_EFFORT' for name in NAMES}
    assert node.get_parameter('qos_overrides./rear/dff/status.publisher.depth').value == 30


def test_the_lifecycle_is_that_of_all_cameras(graph, monkeypatch, capfd):
    node = graph.start_node(NamingBackend(), cameras='front,left', autostart=False)
    assert node.trigger_configure() == SUCCESS
    create_subscription = node.create_subscription

    def fail_on_left(kind, topic, *args, **options):
        if topic == 'left/image':
            raise RuntimeError('no more topics')
        return create_subscription(kind, topic, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(node, 'create_subscription', fail_on_left)
        assert node.trigger_activate() == FAILURE
    assert 'dff_node could not be activated' in capfd.readouterr().err
    wait_until(lambda: not node.count_subscribers('front/image'), 'no subscription to be left')
    assert node.trigger_activate() == SUCCESS
    peers = [graph.start_peer(camera=name) for name in NAMES[:2]]
    for camera, peer in enumerate(peers):
        assert peer.ask(message(camera, 0))['state'] == 'key'
    node.trigger_deactivate()
    wait_until(lambda: not any(peer.camera.get_subscription_count() for peer in peers), 'no subscription')
    node.trigger_activate()
    wait_until(lambda: all(peer.camera.get_subscription_count() for peer in peers), 'the subscriptions')
    for camera, peer in enumerate(peers):
        assert peer.ask(message(camera, 1))['reset_cause'] == 'requested'
        assert peer.ask(message(camera, 2))['state'] == 'propagated'
    node.trigger_deactivate()
    node.trigger_cleanup()
    wait_until(lambda: not node.count_publishers('left/dff/status'), 'no topic to be left')


def test_a_setting_changed_while_running_holds_for_all_cameras(graph):
    from rclpy.parameter import Parameter

    node, peers = start(graph, NamingBackend(), keyframe__interval=100)
    for camera, peer in enumerate(peers):
        peer.ask(message(camera, 0))
    assert node.set_parameters([Parameter('keyframe.interval', value=1)])[0].successful
    for camera, peer in enumerate(peers):
        facts = peer.ask(message(camera, 1))
        assert (facts['state'], facts['interval']) == ('key', '1')
