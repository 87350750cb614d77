# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Detection of the node over real DDS: boxes and headers, silence and emptiness, changes while it runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fake_backend import FakeBackend, fake_boxes
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from ros_helpers import BOX_SPEC, SPEC, Peer, image_message, stamp

from dff_ros.draw import mark_key
from dff_ros.messages import stamp_to_ns, to_frame
from dff_ros.overlay import Overlay
from dff_ros.ros.conversions import to_detections
from dff_ros.ros.node import DffNode

DETECTING = dataclasses.replace(BOX_SPEC, class_names=(), class_colours=())


def wait_for_boxes(peer: Peer, number: int) -> None:
    peer.wait_for(lambda: len(peer.box_arrays) >= number, f'{number} arrays of boxes')


def box_stamps(peer: Peer) -> list[int]:
    """Numbers of the frames whose boxes have come."""
    return [(stamp_to_ns(message.header.stamp) - stamp(0)) // 100_000_000 for message in peer.box_arrays]


def label_stamps(peer: Peer) -> list[int]:
    return [(ns - stamp(0)) // 100_000_000 for ns in peer.stamps()]


def set_now(node: DffNode, **values: object):
    """Set parameters as a whole, with `__` for the dot."""
    return node.set_parameters_atomically(
        [Parameter(name.replace('__', '.'), value=value) for name, value in values.items()]
    )


def test_boxes_have_centre_size_class_name_score_and_the_header_of_the_image(graph):
    graph.start_node(FakeBackend(), BOX_SPEC, keyframe__interval=3)
    peer = graph.start_peer()
    facts = [peer.ask(image_message(number, frame_id='left_optical')) for number in (7, 8)]
    wait_for_boxes(peer, 2)
    assert [stamp_to_ns(message.header.stamp) for message in peer.box_arrays] == [stamp(7), stamp(8)]
    for message, feature in zip(peer.box_arrays, (7, 107), strict=True):
        assert message.header.frame_id == 'left_optical'
        expected = fake_boxes(feature)
        assert len(message.detections) == 2  # the third has a score below 0.3
        for detection, (left, top, right, bottom), name, score in zip(
            message.detections,
            expected.boxes_xyxy.tolist(),
            ('car', 'pedestrian'),
            (0.9, 0.625),
            strict=False,
        ):
            assert detection.header == message.header
            box = detection.bbox
            assert (box.center.position.x, box.center.position.y) == ((left + right) / 2, (top + bottom) / 2)
            assert (box.size_x, box.size_y, box.center.theta) == (right - left, bottom - top, 0.0)
            (hypothesis,) = detection.results
            assert hypothesis.hypothesis.class_id == name
            assert hypothesis.hypothesis.score == pytest.approx(score)
            assert detection.id == ''
        found = to_detections(message, BOX_SPEC.box_class_names)
        np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy[:2])
        np.testing.assert_array_equal(found.scores_N, expected.scores_N[:2])
        assert found.class_ids_N.tolist() == [0, 1]
    assert [(fact['tasks'], fact['num_detections']) for fact in facts] == [
        ('segmentation,detection', '2')
    ] * 2
    assert float(facts[0]['predict_detection_ms']) > 0


def test_an_image_without_objects_gives_an_empty_array_and_not_silence(graph):
    graph.start_node(FakeBackend(nothing_on={4}), BOX_SPEC)
    peer = graph.start_peer()
    facts = peer.ask(image_message(4, frame_id='front'))
    wait_for_boxes(peer, 1)
    (message,) = peer.box_arrays
    assert (list(message.detections), message.header.frame_id) == ([], 'front')
    assert stamp_to_ns(message.header.stamp) == stamp(4)
    assert (facts['num_detections'], facts['state']) == ('0', 'key')


def test_a_bundle_without_detection_has_no_such_topic_and_refuses_the_task(graph):
    node = graph.start_node(FakeBackend(), SPEC)
    peer = graph.start_peer()
    facts = peer.ask(image_message(0))
    assert (facts['tasks'], facts['num_detections']) == ('segmentation', '')
    assert node.count_publishers('/dff/detections') == 0
    refused = set_now(node, tasks='detection')
    assert (refused.successful, refused.reason) == (
        False, "tasks: got 'detection', but the bundle has segmentation",
    )  # fmt: skip
    assert peer.ask(image_message(1))['tasks'] == 'segmentation'


def test_a_bundle_without_segmentation_publishes_boxes_alone(graph):
    node = graph.start_node(FakeBackend(), DETECTING)
    peer = graph.start_peer(overlay=True)
    assert peer.ask(image_message(0))['tasks'] == 'detection'
    wait_for_boxes(peer, 1)
    peer.wait_for(lambda: peer.overlays, 'the overlay')
    assert node.count_publishers('/dff/segmentation') == node.count_publishers('/dff/label_info') == 0
    endpoint = node.get_publishers_info_by_topic('/dff/detections')[0].qos_profile
    assert endpoint.reliability == ReliabilityPolicy.RELIABLE


def test_each_task_keeps_its_own_cadence_and_nothing_is_published_for_one_that_did_not_run(graph):
    graph.start_node(FakeBackend(), BOX_SPEC, segmentation__every=2, detection__every=3)
    peer = graph.start_peer(overlay=True)
    facts = [peer.ask(image_message(number)) for number in range(8)]
    assert [fact['tasks'] for fact in facts] == [
        'segmentation,detection', '', 'segmentation', 'detection', 'segmentation', '',
        'segmentation,detection', '',
    ]  # fmt: skip
    assert [fact['state'] for fact in facts] == [
        'key', 'idle', 'propagated', 'propagated', 'propagated', 'idle', 'key', 'idle',
    ]  # fmt: skip # the key frame due on the idle frame 5 is made on frame 6
    assert (facts[1]['reason'], facts[1]['motion_px'], facts[1]['num_detections']) == ('nothing_due', '', '')
    assert facts[7]['processed'] == '8'
    wait_for_boxes(peer, 3)
    assert (label_stamps(peer), box_stamps(peer)) == ([0, 2, 4, 6], [0, 3, 6])
    peer.wait_for(lambda: len(peer.overlays) == 5, 'an overlay for each frame with an answer')


def test_thresholds_classes_and_limit_change_while_running(graph):
    backend = FakeBackend()
    node = graph.start_node(backend, BOX_SPEC)
    peer = graph.start_peer()
    counts = [peer.ask(image_message(0))['num_detections']]
    for number, change in enumerate(
        [
            {'detection__score_threshold': 0.125, 'detection__nms_iou': 0.75},
            {'detection__classes': 'car'},
            {'detection__max_detections': 1},
            {'detection__classes': 'pedestrian'},
            {'detection__classes': '', 'detection__score_threshold': 1.0},
        ],
        start=1,
    ):
        assert set_now(node, **change).successful
        counts.append(peer.ask(image_message(number))['num_detections'])
    assert counts == ['2', '3', '2', '1', '1', '0']
    assert backend.calls[-1].endswith('iou 0.75 score 1')
    wait_for_boxes(peer, 6)
    assert [m.results[0].hypothesis.class_id for m in peer.box_arrays[4].detections] == ['pedestrian']


def test_tasks_and_cadence_change_while_running(graph):
    backend = FakeBackend()
    node = graph.start_node(backend, BOX_SPEC, keyframe__interval=100)
    peer = graph.start_peer()
    tasks = []
    for number, change in enumerate(
        [{'tasks': 'detection'}, {'tasks': 'segmentation'}, {'tasks': 'detection, segmentation'},
         {'detection__every': 4, 'segmentation__every': 5}, {}, {},
         {'tasks': 'all', 'segmentation__every': 1}]
    ):  # fmt: skip
        if change:
            assert set_now(node, **change).successful
        tasks.append(peer.ask(image_message(number))['tasks'])
    assert tasks == [
        'detection', 'segmentation', 'segmentation,detection', '', 'detection', 'segmentation',
        'segmentation',
    ]  # fmt: skip
    assert [call for call in backend.calls if call.startswith('extract')] == ['extract 0']


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'tasks': 'lanes'}, "tasks: got 'lanes', but the bundle has segmentation, detection"),
        ({'tasks': ''}, 'tasks: got'),
        ({'detection__classes': 'car,cat'}, "classes: got 'cat', but the bundle detects car, pedestrian"),
        ({'detection__score_threshold': 1.5}, 'detection.score_threshold'),
        ({'detection__every': 0}, 'detection.every'),
        ({'detection__max_detections': 0}, 'detection.max_detections'),
    ],
)  # fmt: skip
def test_a_refused_value_says_why_and_changes_nothing_else(graph, change, reason):
    node = graph.start_node(FakeBackend(), BOX_SPEC)
    refused = set_now(node, segmentation__every=3, **change)
    assert not refused.successful
    assert reason in refused.reason
    assert node.get_parameter('segmentation.every').value == 1
    peer = graph.start_peer()
    tasks = [peer.ask(image_message(number))['tasks'] for number in range(2)]
    assert tasks == ['segmentation,detection'] * 2


def test_names_are_checked_against_the_bundle_when_it_is_loaded(graph):
    node = graph.start_node(FakeBackend(), SPEC, autostart=False)
    assert set_now(node, tasks='detection').successful  # no bundle is loaded yet
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert set_now(node, tasks='segmentation').successful
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert not set_now(node, detection__classes='car').successful
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert set_now(node, detection__classes='car').successful  # another bundle may have it


def test_an_error_in_detect_costs_one_frame_and_the_key_frame(graph):
    graph.start_node(FakeBackend(fail_to_detect={101}), BOX_SPEC)
    peer = graph.start_peer()
    facts = [peer.ask(image_message(number)) for number in range(1, 4)]
    assert [fact['state'] for fact in facts] == ['key', 'dropped', 'key']
    assert (facts[1]['reason'], facts[1]['dropped.engine_error']) == ('engine_error', '1')
    assert 'no boxes of feature 101' in facts[1]['detail']
    assert facts[2]['reset_cause'] == 'error'
    wait_for_boxes(peer, 2)
    assert (label_stamps(peer), box_stamps(peer)) == ([1, 3], [1, 3])  # no half answer


def test_overlay_shows_boxes(graph):
    graph.start_node(FakeBackend(), BOX_SPEC, overlay__alpha=0.25)
    peer = graph.start_peer(overlay=True)
    size = (120, 160)
    peer.ask(image_message(39, size=size))
    peer.wait_for(lambda: peer.overlays, 'the overlay')
    kept = fake_boxes(39).chosen(np.array([0, 1]))
    expected = Overlay(BOX_SPEC, 0.25).draw(
        np.full((*size, 3), 39, np.uint8), np.full(size, 39, np.uint8), kept
    )
    mark_key(expected)
    np.testing.assert_array_equal(to_frame(peer.overlays[0]).image_HW3, expected)
