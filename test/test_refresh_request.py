# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`refresh`: the next frame that is answered becomes a key frame; the one in use serves until then."""

from __future__ import annotations

import pytest
from executors import ManualExecutor
from fake_backend import FakeBackend, numbered_frame

from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.refresh import RefreshWorker
from dff_ros.tasks import TaskPlan
from dff_ros.types import StepResult


def told(results: list[StepResult]) -> list[tuple[str, int]]:
    return [(result.reason, result.age_frames) for result in results]


def test_the_next_frame_is_a_key_frame_and_the_interval_begins_anew():
    backend = FakeBackend()
    engine = Engine(backend, KeyframeConfig(interval=3))
    stream = engine.stream()
    results = [stream.step(numbered_frame(n)) for n in range(2)]
    engine.refresh()
    results += [stream.step(numbered_frame(n)) for n in range(2, 6)]
    within = 'within_interval'
    assert told(results) == [
        ('no_key', 0), (within, 1), ('requested', 0), (within, 1), (within, 2), ('interval', 0),
    ]  # fmt: skip
    assert [result.reset_cause for result in results] == [None] * 6
    assert backend.calls[2] == 'extract 2'


def test_each_camera_has_its_own_request():
    engine = Engine(FakeBackend())
    for camera in ('front', 'rear'):
        engine.step(numbered_frame(0, camera=camera))
    engine.stream('rear').refresh()
    reasons = [engine.step(numbered_frame(1, camera=camera)).reason for camera in ('front', 'rear')]
    assert reasons == ['within_interval', 'requested']


def test_a_frame_without_a_task_leaves_it_to_the_next_one():
    stream = Engine(FakeBackend(), plan=TaskPlan()).stream()
    stream.step(numbered_frame(0))
    stream.refresh()
    stream.configure(KeyframeConfig(), TaskPlan(tasks=()))
    assert stream.step(numbered_frame(1)).reason == 'nothing_due'
    stream.configure(KeyframeConfig(), TaskPlan())
    assert stream.step(numbered_frame(2)).reason == 'requested'


def test_a_frame_that_fails_leaves_it_to_the_next_one():
    stream = Engine(FakeBackend(fail_on={1})).stream()
    stream.step(numbered_frame(0))
    stream.refresh()
    with pytest.raises(RuntimeError, match='frame 1 fails'):
        stream.step(numbered_frame(1))
    result = stream.step(numbered_frame(2))
    assert (result.reason, result.is_key, result.reset_cause.value) == ('requested', True, 'error')


def test_what_a_worker_makes_meanwhile_is_not_used_after_it():
    """It is older than the frame that became a key frame on request."""
    executor = ManualExecutor()
    executor.is_instant = True  # to open the backend
    worker = RefreshWorker(FakeBackend, executor)
    executor.is_instant = False
    stream = Engine(FakeBackend(), KeyframeConfig(interval=2), worker=worker).stream()
    results = [stream.step(numbered_frame(n)) for n in range(3)]  # frame 2 is handed over
    stream.refresh()
    results.append(stream.step(numbered_frame(3)))
    while executor.run_next() is not None:
        pass
    results.append(stream.step(numbered_frame(4)))
    assert told(results[2:]) == [('interval', 2), ('requested', 0), ('within_interval', 1)]
    assert [int(result.segmentation.label_map_HW[0, 0]) for result in results[2:]] == [100, 3, 103]
