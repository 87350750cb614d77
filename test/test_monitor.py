# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The demo's monitor pairs the parts of a frame's answer, whichever tasks ran; the recorder draws them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip('rclpy')
from fake_backend import fake_boxes
from ros_helpers import BOX_SPEC, image_message, stamp
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dff_ros.draw import Caption
from dff_ros.recorder import Recorder, Shot
from dff_ros.ros.answer import Answer
from dff_ros.ros.conversions import fill_image, ns_to_stamp, to_detection_array, to_diagnostics
from dff_ros.ros.monitor import Monitor
from dff_ros.video import VideoReader

NAMES = BOX_SPEC.box_class_names
TIMES = dict.fromkeys(
    ('extract_ms', 'propagate_ms', 'flow_ms', 'warp_ms', 'predict_ms', 'predict_segmentation_ms'), 0.0
)
PARTS_IN_ANY_ORDER = list(itertools.permutations(['camera', 'labels', 'boxes', 'status']))


class Watch:
    """A monitor that is fed by hand, and its answers."""

    def __init__(self, context, *, is_live: bool = False) -> None:
        self.answers: list[Answer] = []
        self.monitor = Monitor(self.answers.append, is_live=is_live, box_class_names=NAMES, context=context)

    def header(self, number: int) -> Header:
        return Header(stamp=ns_to_stamp(stamp(number)))

    def camera(self, number: int) -> None:
        facts = {'state': 'published', 'published': number + 1, 'index': number}
        self.monitor._on_camera(to_diagnostics(self.header(number), 'dff_camera', '', False, facts))
        self.monitor._on_image(image_message(number))

    def labels(self, number: int) -> None:
        labels = np.full((32, 48), number, np.uint8)
        self.monitor._on_label_map(fill_image(Image(), self.header(number), labels))

    def boxes(self, number: int) -> None:
        self.monitor._on_detections(to_detection_array(self.header(number), fake_boxes(number), NAMES))

    def status(self, number: int, tasks: str, state: str = 'key') -> None:
        facts = {'state': state, 'is_key': True, 'tasks': tasks, 'age_frames': 0, 'reset_cause': ''}
        facts |= {'is_refreshed': state == 'key', 'reason': 'no_key' if state == 'key' else 'within_interval'}
        facts |= {**TIMES, 'predict_detection_ms': 2.0 if 'detection' in tasks else 0.0, 'latency_ms': 7.0}
        self.monitor._on_status(to_diagnostics(self.header(number), 'dff_node', state, False, facts))


@pytest.fixture
def watch(ros_context):
    found = Watch(ros_context)
    yield found
    found.monitor.destroy_node()


@pytest.mark.parametrize('order', PARTS_IN_ANY_ORDER, ids=' '.join)
def test_the_parts_of_a_frame_make_one_answer_in_any_order(watch, order):
    for name in order:
        assert watch.answers == []
        getattr(watch, name)(3, *(['segmentation,detection'] if name == 'status' else []))
    (answer,) = watch.answers
    assert (answer.stamp_ns, answer.index) == (stamp(3), 3)
    assert answer.label_map_HW.min() == answer.label_map_HW.max() == 3
    np.testing.assert_array_equal(answer.detections.boxes_xyxy, fake_boxes(3).boxes_xyxy)
    assert watch.monitor.num_processed == 1
    assert watch.monitor.statistics.detection() == {'frames': 1, 'boxes_mean': 3.0}


@pytest.mark.parametrize(
    ('tasks', 'parts'),
    [('segmentation', ['labels']), ('detection', ['boxes']), ('segmentation,detection', ['labels', 'boxes'])],
)
def test_an_answer_waits_for_the_tasks_that_ran_and_for_no_other(watch, tasks, parts):
    watch.camera(0)
    watch.status(0, tasks)
    for part in parts:
        assert watch.answers == [] and watch.monitor.num_processed == 0
        getattr(watch, part)(0)
    assert len(watch.answers) == watch.monitor.num_processed == 1
    assert (watch.answers[0].label_map_HW is None) == ('labels' not in parts)
    assert (watch.answers[0].detections is None) == ('boxes' not in parts)
    assert watch.monitor.is_settled


def test_an_idle_frame_is_answered_by_its_status_and_has_no_part_in_the_times(watch):
    for number, (tasks, state) in enumerate([('detection', 'key'), ('', 'idle')]):
        watch.camera(number)
        if tasks:
            watch.boxes(number)
        watch.status(number, tasks, state)
    summary = watch.monitor.statistics.summary()
    assert (summary['processed'], summary['idle_frames'], summary['key_frames']) == (2, 1, 1)
    assert summary['latency_ms'] == {'p50': 7.0, 'p99': 7.0}
    assert summary['stages_ms'] == {'predict_detection': 2.0}
    assert [answer.index for answer in watch.answers] == [0, 1]


def test_an_answer_that_lost_a_part_is_not_counted(watch):
    watch.camera(0)
    watch.labels(0)
    watch.status(0, 'segmentation,detection')  # its boxes never come
    watch.camera(1)
    watch.status(1, '', 'idle')
    watch.monitor.flush()
    assert [answer.index for answer in watch.answers] == [1]
    assert watch.monitor.num_processed == 1


def test_the_video_shows_what_ran_on_each_frame(tmp_path):
    image = np.full((120, 160, 3), 99, np.uint8)
    labels, found = np.zeros((120, 160), np.uint8), fake_boxes(39)
    path = tmp_path / 'demo.mp4'
    with Recorder(path, 10.0, BOX_SPEC, alpha=1.0, interval=5) as recorder:
        for number, (label_map, boxes) in enumerate(
            [(labels, found), (labels, None), (None, found), (None, None)]
        ):
            caption = Caption(number=number + 5, is_key=False, age_frames=1)
            recorder.put(
                Shot(
                    image_HW3=image,
                    label_map_HW=label_map,
                    detections=boxes,
                    caption=caption,
                    stamp_ns=number * 10**8,
                )
            )
    assert recorder.num_skipped == 0
    with VideoReader(path) as reader:
        frames = [picture.astype(int) for picture, _ in reader]
    left = frames[0].shape[1] // 2
    ground = [
        tuple(np.median(frame[60:140, left + 60 : left + 140].reshape(-1, 3), axis=0)) for frame in frames
    ]
    road = np.array(BOX_SPEC.class_colours[0])
    for colour, expected in zip(ground, (road, road, (99,) * 3, (99,) * 3), strict=True):
        np.testing.assert_allclose(colour, expected, atol=12)  # lossy coding
    for with_boxes, without in ((0, 1), (2, 3)):
        changed = np.abs(frames[with_boxes] - frames[without]).max(axis=2) > 60
        assert changed[:, left:].sum() > 40
    still = recorder.still
    assert still is not None  # the frame with most to see: the first
    assert (still == BOX_SPEC.class_colours[1]).all(axis=2).sum() > 40
