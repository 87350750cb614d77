# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The node over real DDS, on a backend whose answers tell which frame they come from."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_helpers import SPEC, GatedBackend, Peer, image_message, stamp, wait_until
from sensor_msgs.msg import Image

from dff_ros.deadline import DeadlineController
from dff_ros.draw import blend, mark_key
from dff_ros.messages import stamp_to_ns, to_frame
from dff_ros.ros.node import DffNode
from dff_ros.ros.publishers import Publishers


def is_accounted_for(facts: dict[str, str]) -> bool:
    return int(facts['received']) == int(facts['processed']) + int(facts['dropped']) + int(facts['pending'])


def class_ids(message: Image) -> set[int]:
    return set(bytes(message.data))


def test_label_map_has_the_header_of_its_image_and_no_row_padding(graph):
    graph.start_node(FakeBackend(), keyframe__interval=3)
    peer = graph.start_peer()
    for number in range(5):
        peer.ask(image_message(number, size=(33, 47), frame_id='left_optical'))
    assert peer.stamps() == [stamp(number) for number in range(5)]
    assert {m.header.frame_id for m in peer.label_maps} == {'left_optical'}
    for message in peer.label_maps:
        layout = (message.height, message.width, message.step, message.encoding, len(message.data))
        assert layout == (33, 47, 47, 'mono8', 33 * 47)
    assert [class_ids(m) for m in peer.label_maps] == [
        {0},
        {100},
        {100},
        {3},
        {103},
    ]  # key 0, warped, warped, key 3


def test_status_tells_key_age_times_and_totals_with_the_header_of_the_image(graph):
    graph.start_node(FakeBackend(), keyframe__interval=2)
    peer = graph.start_peer()
    key, propagated = (peer.ask(image_message(number)) for number in range(2))
    assert [stamp_to_ns(m.header.stamp) for m in peer.statuses] == [stamp(0), stamp(1)]
    assert peer.statuses[0].header.frame_id == 'camera'
    expected = {
        'state': 'key',
        'is_key': 'true',
        'is_refreshed': 'true',
        'reason': 'no_key',
        'reset_cause': '',
        'age_frames': '0',
        'age_s': '0.000',
        'coverage': '1.000',
        'residual': '0.000',
        'disagreement': '',
        'change': '',
        'key_change': '',
        'tasks': 'segmentation',
        'num_detections': '',
        'scheduler': 'fixed',
        'interval': '2',
        'refresh': 'inline',
        'backend': 'fake',
        'device': 'cpu',
        'processed': '1',
        'dropped': '0',
    }
    assert expected.items() <= key.items()
    expected = {
        'state': 'propagated',
        'is_key': 'false',
        'reason': 'within_interval',
        'age_frames': '1',
        'age_s': '0.100',
        'motion_px': '4.000',
        'coverage': '0.500',
        'change': '0.000',
        'key_change': '0.000',
        'received': '2',
        'pending': '0',
    }
    assert expected.items() <= propagated.items()
    times = {
        f'{stage}_ms'
        for stage in ('convert', 'extract', 'propagate', 'flow', 'warp', 'predict', 'total', 'latency')
    }
    assert times <= key.keys()
    assert 0 < float(key['total_ms']) <= float(key['latency_ms'])


def test_late_subscriber_gets_the_class_names_once(graph):
    graph.start_node(FakeBackend())
    first = graph.start_peer()
    first.ask(image_message(0))
    first.ask(image_message(1))
    late = graph.start_peer()
    names = [(c.class_id, c.class_name) for c in late.label_infos[0].class_map]
    assert names == [(0, 'road'), (1, 'car')]
    assert len(first.label_infos) == 1  # not repeated with the frames


def test_a_camera_faster_than_the_backend_loses_frames_to_newer_ones_and_none_silently(graph):
    backend = GatedBackend()
    node = graph.start_node(backend, keyframe__interval=4)
    peer = graph.start_peer()
    backend.gate.clear()
    backend_is_busy = image_message(0)
    peer.camera.publish(backend_is_busy)
    assert backend.entered.acquire(timeout=20)
    for number in range(1, 61):  # a second at 60 Hz while the backend works on frame 0
        before = node._mailbox.counts().received
        peer.camera.publish(image_message(number))
        wait_until(lambda before=before: node._mailbox.counts().received > before, f'image {number}')
    backend.gate.set()
    peer.wait_for(lambda: len(peer.statuses) == 2, 'the two answers')
    assert peer.stamps() == [stamp(0), stamp(60)]  # the newest, not the oldest waiting
    last = peer.facts()[-1]
    assert (last['received'], last['processed'], last['dropped.superseded']) == ('61', '2', '59')
    assert is_accounted_for(last)


def test_under_a_free_running_flood_stamps_only_grow_and_counts_add_up(graph):
    graph.start_node(FakeBackend(), keyframe__interval=4)
    peer = graph.start_peer()
    last = 300
    for number in range(last):
        peer.camera.publish(image_message(number % 100, size=(240, 320), stamp_ns=1 + number))
    while not (
        peer.stamps() and peer.stamps()[-1] == last + 1
    ):  # best effort: the closing frame may need a retry
        before = len(peer.statuses)
        peer.camera.publish(image_message(0, size=(240, 320), stamp_ns=last + 1))
        peer.wait_for(lambda before=before: len(peer.statuses) > before, 'any answer')
    stamps = peer.stamps()
    assert stamps == sorted(set(stamps))
    assert all(is_accounted_for(facts) for facts in peer.facts())
    assert int(peer.facts()[-1]['processed']) == len(stamps)


def test_duplicate_stamp_is_dropped_and_counted_and_zero_stamps_are_not_duplicates(graph):
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    assert peer.ask(image_message(1))['state'] == 'key'
    duplicate = peer.ask(image_message(2, stamp_ns=stamp(1)))
    assert (duplicate['state'], duplicate['reason'], duplicate['dropped.duplicate_stamp']) == (
        'dropped',
        'duplicate_stamp',
        '1',
    )
    assert peer.ask(image_message(3))['state'] == 'propagated'
    assert peer.ask(image_message(4, stamp_ns=0))['state'] == 'propagated'
    last = peer.ask(image_message(5, stamp_ns=0))
    assert (last['state'], last['age_s'], last['stamps.zero']) == ('propagated', '0.200', '2')
    assert peer.stamps() == [stamp(1), stamp(3), 0, 0]


def broken(**changes: object) -> Image:
    message = image_message(9)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ('message', 'detail'),
    [
        (broken(encoding='yuv420'), "encoding 'yuv420' is not supported"),
        (broken(height=33), 'truncated'),
        (broken(step=5), 'step is 5 bytes'),
        (broken(height=0), 'empty'),
        (broken(height=15, data=bytes(15 * 144)), '48x15'),
    ],
    ids=['encoding', 'truncated', 'step', 'empty', 'tiny'],
)
def test_a_bad_image_is_dropped_and_counted_and_the_next_good_one_answered(graph, message, detail):
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    peer.ask(image_message(1))
    bad = peer.ask(message)
    assert (bad['state'], bad['reason'], bad['dropped.conversion']) == ('dropped', 'conversion', '1')
    assert detail in bad['detail']
    good = peer.ask(image_message(2))
    assert (good['state'], good['processed'], good['dropped']) == ('propagated', '2', '1')
    assert peer.stamps() == [stamp(1), stamp(2)]


def test_an_error_of_the_backend_costs_one_frame_and_the_key_frame(graph):
    graph.start_node(FakeBackend(fail_on={2}))
    peer = graph.start_peer()
    states = [peer.ask(image_message(number)) for number in range(1, 5)]
    assert [s['state'] for s in states] == ['key', 'dropped', 'key', 'propagated']
    assert (states[1]['reason'], states[1]['dropped.engine_error']) == ('engine_error', '1')
    assert 'frame 2 fails' in states[1]['detail']
    assert states[2]['reset_cause'] == 'error'
    assert [class_ids(m) for m in peer.label_maps] == [{1}, {3}, {103}]


def test_a_fault_of_the_node_itself_loses_no_count_and_not_the_node(graph, monkeypatch):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    publish_segmentation = Publishers.publish_segmentation
    publish_status = Publishers.publish_status

    def fail_segmentation(self, header, answer):
        if stamp_to_ns(header.stamp) == stamp(1):
            raise OSError('no segmentation')
        publish_segmentation(self, header, answer)

    def fail_status(self, header, facts):
        if stamp_to_ns(header.stamp) == stamp(2):
            raise OSError('no status')
        publish_status(self, header, facts)

    monkeypatch.setattr(Publishers, 'publish_segmentation', fail_segmentation)
    monkeypatch.setattr(Publishers, 'publish_status', fail_status)
    peer.ask(image_message(0))
    for number in (1, 2):
        before = node._mailbox.counts()
        peer.camera.publish(image_message(number))
        wait_until(lambda before=before: node._mailbox.counts().received > before.received, 'the image')
        wait_until(lambda: node._mailbox.counts().pending == 0, 'the end of the image')
    last = peer.ask(image_message(3))
    assert (last['received'], last['processed'], last['dropped.internal_error'], last['pending']) == (
        '4',
        '3',
        '1',
        '0',
    )
    assert peer.stamps() == [stamp(0), stamp(2), stamp(3)]


def bgr(number: int) -> Image:
    message = image_message(number)
    message.encoding = 'bgr8'
    return message


@pytest.mark.parametrize(
    ('second', 'cause'),
    [
        (image_message(1, size=(48, 32)), 'size'),
        (bgr(1), 'encoding'),
        (image_message(1, frame_id='other'), 'frame_id'),
        (image_message(1, stamp_ns=stamp(0) - 1), 'backward_stamp'),
        (image_message(1, stamp_ns=stamp(0) + 2_000_000_001), 'gap'),
    ],
    ids=['size', 'encoding', 'frame_id', 'backward_stamp', 'gap'],
)
def test_each_reset_cause_makes_a_key_frame_and_is_told_and_counted(graph, second, cause):
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    peer.ask(image_message(0))
    answer = peer.ask(second)
    assert (answer['state'], answer['reset_cause'], answer[f'resets.{cause}']) == ('key', cause, '1')
    assert class_ids(peer.label_maps[-1]) == {1}


def test_with_a_worker_frames_are_answered_from_the_older_key_frame_until_the_new_one_is_there(graph):
    slow = GatedBackend()
    slow.gate.clear()
    graph.start_node(FakeBackend(), refresh_backend=slow, refresh='worker', keyframe__interval=2)
    peer = graph.start_peer()
    facts = [peer.ask(image_message(number)) for number in range(5)]
    assert [f['reason'] for f in facts[2:]] == ['interval', 'refreshing', 'refreshing']
    assert [f['age_frames'] for f in facts] == ['0', '1', '2', '3', '4']
    slow.gate.set()
    number = 5
    while (last := peer.ask(image_message(number)))['is_refreshed'] == 'false' and number < 100:
        number += 1
    assert (last['state'], last['refresh'], last['is_refreshed']) == ('propagated', 'worker', 'true')
    assert int(last['age_frames']) == number - 2  # of frame 2, which was handed over
    assert [class_ids(message) for message in peer.label_maps[1:number]] == [{100}] * (number - 1)
    assert class_ids(peer.label_maps[number]) == {102}


def test_frames_skipped_for_want_of_time_are_told_and_counted(graph, monkeypatch):
    graph.start_node(FakeBackend(), budget_ms=1000.0)
    peer = graph.start_peer()
    peer.ask(image_message(0))
    with monkeypatch.context() as patch:
        patch.setattr(DeadlineController, 'is_skipping', property(lambda self: True))
        facts = [peer.ask(image_message(1)), peer.ask(image_message(2, frame_id='other'))]
    facts.append(peer.ask(image_message(3, frame_id='other')))
    assert [f['state'] for f in facts] == ['skipped', 'skipped', 'key']
    assert [f['reset_cause'] for f in facts] == ['', 'frame_id', '']
    assert [f['is_refreshed'] for f in facts] == ['false', 'false', 'true']
    assert [f['reason'] for f in facts[:2]] == ['deadline', 'deadline']
    assert [f['dropped.deadline'] for f in facts] == ['1', '2', '2']
    assert 'budget_ms' in facts[0]['detail']
    assert all(map(is_accounted_for, facts))
    assert peer.stamps() == [stamp(0), stamp(3)]


def test_scheduler_set_at_runtime_holds_at_once_and_one_that_cannot_be_served_is_refused(graph):
    node = graph.start_node(FakeBackend(), keyframe__interval=100)
    peer = graph.start_peer()
    peer.ask(image_message(0))
    refused = node.set_parameters([Parameter('keyframe.scheduler', value='learned')])[0]
    assert not refused.successful
    assert 'it can serve fixed, period, motion, residual, budget' in refused.reason
    asked = [Parameter('keyframe.scheduler', value='motion'), Parameter('keyframe.motion_px', value=1.0)]
    assert all(result.successful for result in node.set_parameters(asked))
    answers = [peer.ask(image_message(number)) for number in (1, 2, 3)]
    assert [(answer['reason'], answer['is_key']) for answer in answers] == [
        ('within_limits', 'false'), ('motion', 'true'), ('within_limits', 'false')
    ]  # fmt: skip
    assert (answers[1]['scheduler'], answers[1]['interval']) == ('motion', '')


def test_interval_set_at_runtime_holds_from_the_next_key_frame(graph):
    node = graph.start_node(FakeBackend(), keyframe__interval=3)
    peer = graph.start_peer()
    states = [peer.ask(image_message(number))['state'] for number in range(4)]
    assert node.set_parameters([Parameter('keyframe.interval', value=2)])[0].successful
    answers = [peer.ask(image_message(number)) for number in range(4, 9)]
    states += [answer['state'] for answer in answers]
    assert states == [
        'key',
        'propagated',
        'propagated',
        'key',
        'propagated',
        'key',
        'propagated',
        'key',
        'propagated',
    ]
    assert answers[0]['interval'] == '2'


def test_a_refused_value_says_why_and_changes_nothing(graph):
    node = graph.start_node(FakeBackend(), keyframe__interval=3)
    refused = node.set_parameters([Parameter('keyframe.interval', value=0), Parameter('bundle', value='x')])
    assert [r.successful for r in refused] == [False, False]
    assert 'keyframe.interval' in refused[0].reason
    assert 'deactivate and cleanup first' in refused[1].reason
    assert graph.start_peer().ask(image_message(0))['interval'] == '3'


def test_overlay_is_drawn_only_while_someone_listens(graph, monkeypatch):
    drawn: list[float] = []

    def counting_blend(*args):
        drawn.append(args[3])
        return blend(*args)

    monkeypatch.setattr('dff_ros.overlay.blend', counting_blend)
    graph.start_node(FakeBackend(), overlay__alpha=0.25)
    peer = graph.start_peer()
    peer.ask(image_message(0))
    assert drawn == []
    viewer = graph.start_peer(overlay=True)
    peer.ask(image_message(1))
    viewer.wait_for(lambda: viewer.overlays, 'the overlay')
    assert drawn == [0.25]


def test_overlay_is_the_blend_with_key_frames_marked(graph):
    node = graph.start_node(FakeBackend(), overlay__alpha=0.25)
    peer = graph.start_peer(overlay=True)
    peer.ask(image_message(1))
    node.set_parameters([Parameter('overlay.alpha', value=0.75)])
    peer.ask(image_message(2))
    peer.wait_for(lambda: len(peer.overlays) == 2, 'two overlays')
    assert [stamp_to_ns(m.header.stamp) for m in peer.overlays] == [stamp(1), stamp(2)]
    colours = np.array(SPEC.class_colours, np.uint8)
    key = blend(np.full((32, 48, 3), 1, np.uint8), np.full((32, 48), 1, np.uint8), colours, 0.25)
    mark_key(key)
    np.testing.assert_array_equal(to_frame(peer.overlays[0]).image_HW3, key)
    np.testing.assert_array_equal(key[16, 24], [51, 26, 1])  # 0.25 of (200, 100, 0) over grey 1
    assert (key[0, 0] != key[16, 24]).any()
    propagated = blend(np.full((32, 48, 3), 2, np.uint8), np.full((32, 48), 101, np.uint8), colours, 0.75)
    np.testing.assert_array_equal(to_frame(peer.overlays[1]).image_HW3, propagated)


def test_both_kinds_of_subscriber_and_publisher_match(graph):
    graph.start_node(FakeBackend())
    peer = graph.start_peer()
    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    sensor = peer.create_publisher(Image, 'image', best_effort)
    got: list[Image] = []
    peer.create_subscription(Image, 'dff/segmentation', got.append, best_effort)
    wait_until(
        lambda: sensor.get_subscription_count() and peer.count_subscribers('dff/segmentation') == 2,
        'matching',
    )
    sensor.publish(image_message(4))
    wait_until(lambda: got, 'the label map by best effort')
    assert class_ids(got[0]) == {4}


def test_topics_and_their_quality_of_service(graph):
    node = graph.start_node(FakeBackend(), **{'qos_overrides./dff/segmentation.publisher.depth': 3})
    graph.start_peer()
    endpoint = node.get_subscriptions_info_by_topic('/image')[0].qos_profile
    assert endpoint.reliability == ReliabilityPolicy.BEST_EFFORT
    for topic in ('segmentation', 'overlay', 'status', 'label_info'):
        endpoint = node.get_publishers_info_by_topic(f'/dff/{topic}')[0].qos_profile
        assert endpoint.reliability == ReliabilityPolicy.RELIABLE
        assert (endpoint.durability == DurabilityPolicy.TRANSIENT_LOCAL) == (
            topic in ('label_info', 'status')
        )
    assert node.get_parameter('qos_overrides./image.subscription.depth').value == 1
    assert node.get_parameter('qos_overrides./dff/segmentation.publisher.depth').value == 3


def test_two_namespaces_do_not_mix(graph):
    left, right = FakeBackend(), FakeBackend()
    from ros_helpers import fake_model

    for name, backend in (('left', left), ('right', right)):
        node = DffNode(open_model=fake_model(backend), context=graph.context, namespace=name)
        node.start(graph.exit_codes.append)
        graph.spin(node)
    peer = Peer(graph.context, namespace='right')
    graph.spin(peer)
    wait_until(lambda: peer.camera.get_subscription_count() and peer.label_infos, 'the node of the namespace')
    peer.ask(image_message(5))
    assert right.calls[-1] == 'extract 5'
    assert left.calls == ['warm_up (32, 48)']
    assert peer.label_maps[0].header.stamp == image_message(5).header.stamp


def test_images_lost_by_the_middleware_are_told(graph):
    node = graph.start_node(FakeBackend())
    peer = graph.start_peer()
    subscription = next(end for end in node.subscriptions if end.topic_name == '/image')
    handlers = {handler.event_type.name: handler for handler in subscription.event_handlers}
    # What Fast DDS reports when a best-effort image does not arrive whole, and when a small one follows it.
    for change in (3, 2, 2**31 - 1):
        handlers['RCL_SUBSCRIPTION_MESSAGE_LOST'].callback(SimpleNamespace(total_count_change=change))
    answer = peer.ask(image_message(0))
    assert (answer['lost'], answer['received'], answer['dropped']) == ('5', '1', '0')
