# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Tasks in the engine: which are due on which frame, what is then computed, and which boxes are told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fake_backend import FakeBackend, fake_boxes, numbered_frame
from hypothesis import given
from hypothesis import strategies as st

from dff_ros.config import DffConfig, KeyframeConfig, replace
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.model_spec import ModelSpec
from dff_ros.stream import Stream
from dff_ros.tasks import TaskPlan, plan_tasks
from dff_ros.types import Detections, ResetCause, StepResult

SEGMENTING = ModelSpec(class_names=('road', 'car'), class_colours=((1, 2, 3), (4, 5, 6)))
BOTH = dataclasses.replace(SEGMENTING, box_class_names=('car', 'pedestrian'))
DETECTING = dataclasses.replace(BOTH, class_names=(), class_colours=())


def plan(spec: ModelSpec = BOTH, **settings: object) -> TaskPlan:
    """The plan of settings with `__` for the dot."""
    changes = {name.replace('__', '.'): value for name, value in settings.items()}
    return plan_tasks(replace(DffConfig(), changes), spec)


def make_stream(
    spec: ModelSpec = BOTH, interval: int = 10, **settings: object
) -> tuple[Stream[int, int], FakeBackend]:
    backend = FakeBackend()
    return Engine(backend, KeyframeConfig(interval=interval), plan(spec, **settings)).stream(''), backend


def ran(result: StepResult) -> str:
    """The tasks that answered: s, d, sd or nothing."""
    answers = {'s': result.segmentation, 'd': result.detections}
    return ''.join(letter for letter, answer in answers.items() if answer is not None)


def ids(found: Detections | None) -> list[int]:
    assert found is not None
    return found.class_ids_N.tolist()


@pytest.mark.parametrize(
    ('spec', 'tasks', 'expected'),
    [
        (BOTH, 'all', ('segmentation', 'detection')),
        (SEGMENTING, 'all', ('segmentation',)),
        (DETECTING, 'all', ('detection',)),
        (BOTH, 'detection', ('detection',)),
        (BOTH, ' detection , segmentation,', ('segmentation', 'detection')),
    ],
)
def test_tasks_are_those_asked_for_in_their_fixed_order(spec, tasks, expected):
    assert plan(spec, tasks=tasks).tasks == expected


@pytest.mark.parametrize(
    ('spec', 'settings', 'message'),
    [
        (SEGMENTING, {'tasks': 'detection'}, "tasks: got 'detection', but the bundle has segmentation$"),
        (DETECTING, {'tasks': 'segmentation'}, "got 'segmentation', but the bundle has detection$"),
        (BOTH, {'tasks': 'boxes'}, "tasks: got 'boxes', but the bundle has segmentation, detection"),
        (BOTH, {'tasks': ' ,'}, 'expected all or names separated by commas; the bundle has segm'),
        (BOTH, {'detection__classes': 'car,cat,dog'}, "got 'cat', 'dog', but the bundle detects car, pedes"),
        (SEGMENTING, {'detection__classes': 'car'}, 'the bundle has no detection: leave it empty'),
    ],
)
def test_what_the_bundle_lacks_is_refused_with_what_it_has(spec, settings, message):
    with pytest.raises(ConfigError, match=message):
        plan(spec, **settings)


def test_each_task_has_its_own_cadence_from_the_first_frame_on():
    stream, backend = make_stream(segmentation__every=2, detection__every=3)
    results = [stream.step(numbered_frame(n)) for n in range(8)]
    assert [ran(result) for result in results] == ['sd', '', 's', 'd', 's', '', 'sd', '']
    assert [call.split(' (')[0] for call in backend.calls] == [
        'extract 0', 'detect 0', 'propagate 0->2', 'propagate 0->3', 'detect 100', 'propagate 0->4',
        'propagate 0->6', 'detect 100',
    ]  # fmt: skip
    assert [result.age_frames for result in results] == list(range(8))


def test_an_idle_frame_costs_nothing_and_says_so():
    stream, backend = make_stream(segmentation__every=4, detection__every=4)
    stream.step(numbered_frame(0))
    del backend.calls[:]
    result = stream.step(numbered_frame(1))
    assert backend.calls == []
    assert result.is_idle and not result.is_key
    assert (result.reason, result.motion_px, result.coverage) == ('nothing_due', None, None)
    assert (result.age_frames, round(result.age_s, 6), result.stamp_ns) == (1, 0.1, 1_100_000_000)
    assert (result.timings.extract_ms, result.timings.propagate_ms, result.timings.predict_ms) == (0, 0, 0)


def test_tasks_that_nobody_reads_do_not_run_and_go_on_with_the_next_frame_that_is_read():
    stream, backend = make_stream(interval=4, segmentation__every=2)
    unread = [(), ('segmentation',), ('segmentation', 'detection'), ('segmentation', 'detection')]
    unread += [('detection',), ('detection',), ()]
    results = [stream.step(numbered_frame(n), tasks) for n, tasks in enumerate(unread)]
    assert [ran(result) for result in results] == ['sd', 'd', '', '', 's', '', 'sd']
    assert [result.reason for result in results if result.is_idle] == ['unread'] * 3
    assert not any(result.is_skipped for result in results)
    assert [call.split(' (')[0] for call in backend.calls] == [
        'extract 0', 'detect 0', 'propagate 0->1', 'detect 100', 'extract 4', 'propagate 4->6', 'detect 104',
    ]  # fmt: skip


def test_a_frame_on_which_no_task_is_due_says_so_whoever_reads():
    stream, _ = make_stream(segmentation__every=2, detection__every=2)
    reasons = [stream.step(numbered_frame(n), ('segmentation', 'detection')).reason for n in range(2)]
    assert reasons == ['unread', 'nothing_due']


def test_a_key_frame_that_falls_on_an_idle_frame_is_made_with_the_next_task():
    stream, backend = make_stream(interval=5, segmentation__every=3, tasks='segmentation')
    results = [stream.step(numbered_frame(n)) for n in range(10)]
    assert [n for n, result in enumerate(results) if result.is_key] == [0, 6]
    assert backend.calls == ['extract 0', 'propagate 0->3', 'extract 6', 'propagate 6->9']
    assert results[6].reason == 'interval'


def test_a_reset_on_an_idle_frame_is_told_there_and_the_next_task_makes_the_key_frame():
    stream, _ = make_stream(segmentation__every=3, tasks='segmentation')
    stream.step(numbered_frame(0))
    results = [stream.step(numbered_frame(n, size=(32, 64))) for n in (1, 2, 3)]
    assert [result.reset_cause for result in results] == [ResetCause.SIZE, None, None]
    assert [result.age_frames for result in results] == [0, 0, 0]
    assert [(result.is_key, result.reason) for result in results[2:]] == [(True, 'no_key')]


@pytest.mark.parametrize(
    ('tasks', 'calls'),
    [
        ('segmentation', ['extract 0', 'propagate 0->1']),
        (
            'detection',
            ['extract 0', 'detect 0 (32, 48) iou 0.3 score 0.3', 'propagate 0->1',
             'detect 100 (32, 48) iou 0.3 score 0.3'],
        ),
    ],
)  # fmt: skip
def test_a_task_that_is_off_is_not_run(tasks, calls):
    stream, backend = make_stream(tasks=tasks)
    results = [stream.step(numbered_frame(n)) for n in range(2)]
    assert backend.calls == calls
    assert [ran(result) for result in results] == [tasks[0]] * 2


def test_boxes_are_those_of_the_frame_with_the_settings_asked_for():
    stream, backend = make_stream(detection__score_threshold=0.5, detection__nms_iou=0.7)
    stream.step(numbered_frame(3))
    result = stream.step(numbered_frame(4, size=(32, 48)))
    expected = fake_boxes(103)
    assert result.detections is not None
    np.testing.assert_array_equal(result.detections.boxes_xyxy, expected.boxes_xyxy[:2])
    np.testing.assert_array_equal(result.detections.scores_N, expected.scores_N[:2])
    assert ids(result.detections) == [0, 1]
    assert backend.calls[-1] == 'detect 103 (32, 48) iou 0.7 score 0.5'


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({'detection__score_threshold': 0.0}, [0.9, 0.625, 0.25]),
        ({}, [0.9, 0.625]),
        ({'detection__max_detections': 1}, [0.9]),
        ({'detection__classes': 'pedestrian'}, [0.625]),
        ({'detection__classes': 'pedestrian', 'detection__max_detections': 1}, [0.625]),  # classes come first
        ({'detection__classes': 'car, pedestrian', 'detection__score_threshold': 0.7}, [0.9]),
        ({'detection__score_threshold': 0.95}, []),
    ],
)
def test_score_then_classes_then_the_best(settings, expected):
    stream, _ = make_stream(**settings)
    found = stream.step(numbered_frame(1)).detections
    assert found is not None
    assert found.scores_N.tolist() == pytest.approx(expected)
    assert found.boxes_xyxy.shape == (len(expected), 4)


def test_an_image_without_objects_has_an_empty_answer():
    stream, backend = make_stream()
    backend.nothing_on = {5}
    result = stream.step(numbered_frame(5))
    assert result.detections is not None and not result.is_idle
    assert (result.detections.boxes_xyxy.shape, result.detections.scores_N.tolist()) == ((0, 4), [])


def test_predict_time_is_the_sum_over_the_tasks():
    stream, _ = make_stream(detection__every=2)
    both, one = (stream.step(numbered_frame(n)).timings for n in range(2))
    assert both.predict_ms == both.predict_segmentation_ms + both.predict_detection_ms
    assert min(both.predict_segmentation_ms, both.predict_detection_ms) > 0
    assert (one.predict_ms, one.predict_detection_ms) == (one.predict_segmentation_ms, 0.0)
    assert both.total_ms >= both.extract_ms + both.predict_ms


def test_an_error_in_detect_is_raised_and_the_next_frame_starts_afresh():
    stream, backend = make_stream()
    backend.fail_to_detect = {100}
    stream.step(numbered_frame(0))
    with pytest.raises(RuntimeError, match='no boxes of feature 100'):
        stream.step(numbered_frame(1))
    result = stream.step(numbered_frame(2))
    assert (result.is_key, result.reset_cause, ran(result)) == (True, ResetCause.ERROR, 'sd')


def test_a_plan_changed_while_running_keeps_the_key_frame_and_the_count():
    backend = FakeBackend()
    engine = Engine(backend, KeyframeConfig(interval=10), plan(detection__every=3))
    found = [ran(engine.step(numbered_frame(n))) for n in range(2)]
    engine.configure(KeyframeConfig(interval=10), plan(detection__every=2, segmentation__every=3))
    found += [ran(engine.step(numbered_frame(n))) for n in range(2, 5)]
    engine.configure(KeyframeConfig(interval=9))  # without a plan: as before
    found += [ran(engine.step(numbered_frame(n))) for n in range(5, 7)]
    assert found == ['sd', 's', 'd', 's', 'd', '', 'sd']
    assert [call for call in backend.calls if call.startswith('extract')] == ['extract 0']


@given(
    segmentation=st.integers(1, 5),
    detection=st.integers(1, 5),
    interval=st.integers(1, 6),
    resets=st.lists(st.booleans(), max_size=25),
)
def test_cadence_counts_frames_whatever_becomes_of_key_frames(segmentation, detection, interval, resets):
    stream, _ = make_stream(interval=interval, segmentation__every=segmentation, detection__every=detection)
    for number, is_reset in enumerate(resets):
        if is_reset:
            stream.reset()
        result = stream.step(numbered_frame(number))
        assert (result.segmentation is not None) == (number % segmentation == 0)
        assert (result.detections is not None) == (number % detection == 0)


def test_cameras_count_for_themselves():
    engine = Engine(FakeBackend(), KeyframeConfig(), plan(tasks='detection', detection__every=2))
    cameras = ['left', 'right', 'left', 'left', 'right']
    results = [engine.step(numbered_frame(n, camera=camera)) for n, camera in enumerate(cameras)]
    assert [ran(result) for result in results] == ['d', 'd', '', 'd', '']


def test_without_a_plan_every_frame_is_segmented():
    engine = Engine(FakeBackend())
    assert [ran(engine.step(numbered_frame(n))) for n in range(3)] == ['s', 's', 's']
