# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Key frames made in the background: when they come into use, what is discarded, none mixed up."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest
from executors import ManualExecutor
from fake_backend import FakeBackend, numbered_frame

from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.refresh import RefreshWorker
from dff_ros.stream import Stream
from dff_ros.types import ResetCause, StepResult

TIMEOUT_S = 10.0


def make_engine(executor: ManualExecutor, **settings: object) -> tuple[Engine[int, int], FakeBackend]:
    """An engine with a worker that runs when the test says so; the backend that propagates."""
    backend = FakeBackend()
    is_instant, executor.is_instant = executor.is_instant, True
    worker = RefreshWorker(FakeBackend, executor)
    executor.is_instant = is_instant
    return Engine(backend, KeyframeConfig(**settings), worker=worker), backend  # type: ignore[arg-type]


def make_stream(**settings: object) -> tuple[Stream[int, int], FakeBackend, ManualExecutor]:
    executor = ManualExecutor(is_instant=False)
    engine, backend = make_engine(executor, **settings)
    return engine.stream(''), backend, executor


def label(result: StepResult) -> int:
    """100 + the key frame's number where the frame was propagated, its own number on a key frame."""
    assert result.segmentation is not None
    return int(result.segmentation.label_map_HW[0, 0])


def test_frames_go_on_from_the_older_key_until_the_new_one_is_ready():
    stream, backend, executor = make_stream(interval=3)
    results = [stream.step(numbered_frame(n)) for n in range(5)]
    assert executor.run_next()
    results += [stream.step(numbered_frame(n)) for n in range(5, 8)]
    assert [label(r) for r in results] == [0, 100, 100, 100, 100, 103, 103, 103]
    assert [r.age_frames for r in results] == [0, 1, 2, 3, 4, 2, 3, 4]  # counted from the key's own number
    assert [round(r.age_s, 6) for r in results] == [0, 0.1, 0.2, 0.3, 0.4, 0.2, 0.3, 0.4]
    assert [r.is_key for r in results] == [True] + 7 * [False]
    assert [r.is_refreshed for r in results] == [n in (0, 5) for n in range(8)]
    reasons = ['no_key', 'within_interval', 'within_interval', 'interval', 'refreshing', 'within_interval']
    assert [r.reason for r in results[:6]] == reasons
    assert [r.reason for r in results[6:]] == ['interval', 'refreshing']  # 6 is as far from 3 as 3 from 0
    assert backend.calls[0] == 'extract 0'  # the first frame waits, so its own backend makes it
    assert sum(call.startswith('extract') for call in backend.calls) == 1


def test_what_is_swapped_in_has_no_measurements_of_the_older_key():
    stream, _, executor = make_stream(interval=2)
    for n in range(3):
        stream.step(numbered_frame(n))
    assert stream._cache.signal(numbered_frame(2)).measured is not None
    executor.run_next()
    stream._swap()
    assert stream._cache.signal(numbered_frame(2)).measured is None


def test_a_cut_between_two_frames_is_not_hidden_by_a_swap():
    stream, _, executor = make_stream(interval=2)
    for n in range(3):
        stream.step(numbered_frame(n))
    executor.run_next()
    stream._cache.admit(numbered_frame(3), max_gap_s=2.0)
    stream._cache._change = 0.75  # as admit leaves it on a cut
    assert stream._swap().number == 2
    assert stream._cache.signal(numbered_frame(3)).change == 0.75


def test_at_the_age_cap_the_frame_waits_and_what_is_in_flight_is_dropped():
    stream, backend, executor = make_stream(interval=2, max_age_s=0.35)
    results = [stream.step(numbered_frame(n)) for n in range(5)]
    assert [(r.reason, label(r)) for r in results[2:]] == [
        ('interval', 100),
        ('refreshing', 100),
        ('max_age', 4),
    ]
    assert backend.calls[-1] == 'extract 4'
    executor.run_next()  # frame 2 was cancelled while it waited: there is nothing left to run
    assert [label(stream.step(numbered_frame(n))) for n in (5, 6)] == [104, 104]


def test_with_a_worker_no_frame_waits_at_the_age_cap_once_it_is_known_how_long_a_key_frame_takes():
    """Ten frames a second; a key frame comes two frames after it was asked for. Then the camera stops."""
    stream, backend, executor = make_stream(interval=3)
    still = KeyframeConfig(scheduler='residual', residual=255.0, max_age_s=1.0)
    results, asked = [], -1
    for n in range(80):
        if n == asked + 2:
            executor.run_next()
        if n == 10:
            stream.configure(still)
        results.append(stream.step(numbered_frame(n)))
        asked = n if results[-1].reason in ('interval', 'max_age') else asked
    assert [n for n, r in enumerate(results) if r.is_key] == [0]
    assert backend.calls.count('extract 0') == sum(call.startswith('extract') for call in backend.calls) == 1
    aged = [n for n, r in enumerate(results) if r.reason == 'max_age']
    assert set(np.diff(aged)) == {7}  # asked for at age 0.7 s, in use at age 0.2 s
    assert max(r.age_s for r in results) == pytest.approx(0.8)


def test_a_worker_that_never_answers_is_not_waited_for_longer_than_the_longest_interval():
    """Without stamps no age in seconds would end it."""
    stream, backend, executor = make_stream(interval=3, max_interval=5)
    results = []
    for n in range(20):
        results.append(stream.step(dataclasses.replace(numbered_frame(n), stamp_ns=0)))
        executor.begin_next()
    keys = [(n, r.reason) for n, r in enumerate(results) if r.is_key]
    # Asked for at 3; from 8 on the thread is never free.
    assert keys == [(0, 'no_key'), (8, 'overdue'), (13, 'overdue'), (18, 'overdue')]
    assert max(r.age_frames for r in results) == 3 + 5 - 1
    assert backend.calls.count('extract 8') == 1


def test_one_that_computes_already_when_it_is_discarded_is_never_used_and_blocks_the_next():
    backend, slow = FakeBackend(), GatedBackend()
    engine = Engine(backend, KeyframeConfig(interval=2), worker=RefreshWorker(lambda: slow))
    try:
        for n in range(3):
            engine.step(numbered_frame(n))
        assert slow.entered.acquire(timeout=TIMEOUT_S)  # frame 2 is being computed
        engine.reset()
        results = [engine.step(numbered_frame(n)) for n in range(3, 6)]
        assert [label(r) for r in results] == [3, 103, 103]
        assert results[2].reason == 'refreshing'  # due, but the thread is not free
        slow.gate.set()
        engine.worker.warm_up((32, 48))  # runs behind frame 2
        assert label(engine.step(numbered_frame(6))) == 103  # now 6 is submitted, 2 is gone
        engine.worker.warm_up((32, 48))
        assert label(engine.step(numbered_frame(7))) == 106
    finally:
        slow.gate.set()
        engine.close()
    assert slow.calls == ['extract 2', 'warm_up (32, 48)', 'extract 6', 'warm_up (32, 48)', 'close']


class GatedBackend(FakeBackend):
    """Blocks every extract until `gate` is set; `entered` tells that one began."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Semaphore(0)
        self.thread_names: set[str] = set()

    def extract(self, image_HW3):
        self.thread_names.add(threading.current_thread().name)
        self.entered.release()
        assert self.gate.wait(TIMEOUT_S)
        return super().extract(image_HW3)

    def warm_up(self, size):
        self.thread_names.add(threading.current_thread().name)
        super().warm_up(size)


def test_the_worker_uses_its_backend_on_its_own_thread_only():
    opened_on: list[str] = []
    slow = GatedBackend()
    slow.gate.set()

    def open_backend():
        opened_on.append(threading.current_thread().name)
        return slow

    engine = Engine(FakeBackend(), KeyframeConfig(interval=1), worker=RefreshWorker(open_backend))
    engine.warm_up((32, 48))
    for n in range(3):
        engine.step(numbered_frame(n))
    engine.close()
    engine.close()
    assert set(opened_on) == slow.thread_names != {threading.current_thread().name}
    assert not [thread for thread in threading.enumerate() if thread.name in opened_on]


def test_a_backend_that_cannot_be_opened_is_the_callers_error():
    def fail():
        raise OSError('no such file')

    with pytest.raises(OSError, match='no such file'):
        RefreshWorker(fail)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith('refresh')]


def test_the_image_is_copied_so_its_owner_may_write_to_it():
    stream, _, executor = make_stream(interval=1)
    stream.step(numbered_frame(0))
    frame = numbered_frame(1)
    stream.step(frame)
    frame.image_HW3[:] = 77
    executor.run_next()
    assert label(stream.step(numbered_frame(2))) == 101


def test_an_error_of_the_worker_is_raised_by_the_next_step_and_the_stream_goes_on():
    stream, _, executor = make_stream(interval=2)
    stream._refresher._extractor.fail_on = {2}  # type: ignore[attr-defined]
    for n in range(3):
        stream.step(numbered_frame(n))
    executor.run_next()
    with pytest.raises(RuntimeError, match='frame 2 fails'):
        stream.step(numbered_frame(3))
    result = stream.step(numbered_frame(4))
    assert (result.reset_cause, result.is_key, label(result)) == (ResetCause.ERROR, True, 4)


def test_submitting_twice_is_refused():
    stream, _, _ = make_stream()
    stream.step(numbered_frame(0))
    refresher, thumbnail = stream._refresher, stream._cache.thumbnail
    refresher.submit(numbered_frame(1), 1, thumbnail)
    with pytest.raises(RuntimeError, match='frame 2 cannot'):
        refresher.submit(numbered_frame(2), 2, thumbnail)
