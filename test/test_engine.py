# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The engine against a fake backend: a table of frames gives the expected trace."""

from __future__ import annotations

import pytest
from fake_backend import FakeBackend, numbered_frame

from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.stream import Stream
from dff_ros.types import ResetCause


def make_stream(**settings: float) -> tuple[Stream[int, int], FakeBackend]:
    backend = FakeBackend()
    return Engine(backend, KeyframeConfig(**settings)).stream(''), backend  # type: ignore[arg-type]


def test_fixed_interval_extracts_every_l_frames_and_warps_from_the_key():
    stream, backend = make_stream(interval=3)
    results = [stream.step(numbered_frame(n)) for n in range(7)]
    assert backend.calls == [
        'extract 0',
        'propagate 0->1',
        'propagate 0->2',
        'extract 3',
        'propagate 3->4',
        'propagate 3->5',
        'extract 6',
    ]  # never chained: both propagated frames come from the key
    assert [r.is_key for r in results] == [True, False, False, True, False, False, True]
    assert [r.age_frames for r in results] == [0, 1, 2, 0, 1, 2, 0]
    assert [round(r.age_s, 6) for r in results] == [0, 0.1, 0.2, 0, 0.1, 0.2, 0]
    assert [int(r.segmentation.label_map_HW[0, 0]) for r in results] == [0, 100, 100, 3, 103, 103, 6]
    assert [r.reason for r in results[:4]] == ['no_key', 'within_interval', 'within_interval', 'interval']
    assert [r.coverage for r in results[:2]] == [1.0, 0.5]
    assert [r.motion_px for r in results[:2]] == [0.0, 4.0]


def test_interval_one_is_per_frame_inference():
    stream, backend = make_stream(interval=1)
    for n in range(3):
        assert stream.step(numbered_frame(n)).is_key
    assert backend.calls == ['extract 0', 'extract 1', 'extract 2']


def test_result_carries_stamp_frame_id_and_output_size_of_its_frame():
    stream, _ = make_stream()
    result = stream.step(numbered_frame(5, size=(37, 61), frame_id='left_optical'))
    assert (result.stamp_ns, result.frame_id) == (1_500_000_000, 'left_optical')
    assert result.segmentation.label_map_HW.shape == (37, 61)


@pytest.mark.parametrize(
    ('changes', 'cause'),
    [
        ({'size': (32, 64)}, ResetCause.SIZE),
        ({'encoding': 'bgr8'}, ResetCause.ENCODING),
        ({'frame_id': 'other'}, ResetCause.FRAME_ID),
        ({'stamp_ns': 1_099_999_999}, ResetCause.BACKWARD_STAMP),  # one nanosecond before frame 1
        ({'stamp_ns': 3_100_000_001}, ResetCause.GAP),  # one nanosecond more than max_gap_s after frame 1
    ],
)
def test_frame_that_cannot_follow_drops_the_key_frame(changes, cause):
    stream, backend = make_stream(interval=10)
    stream.step(numbered_frame(0))
    stream.step(numbered_frame(1))
    result = stream.step(numbered_frame(2, **changes))
    assert result.is_key
    assert result.reset_cause is cause
    assert backend.calls[-1] == 'extract 2'


@pytest.mark.parametrize(
    'changes',
    [
        {'stamp_ns': 1_100_000_000},  # the stamp of the frame before
        {'stamp_ns': 3_000_000_000},  # max_gap_s is inclusive, as is max_age_s
    ],
)
def test_frame_within_the_limits_keeps_the_key_frame(changes):
    stream, _ = make_stream(interval=10)
    stream.step(numbered_frame(0))
    stream.step(numbered_frame(1))
    result = stream.step(numbered_frame(2, **changes))
    assert not result.is_key
    assert result.reset_cause is None


def test_key_frame_older_than_the_cap_is_replaced_without_a_reset():
    stream, _ = make_stream(interval=100, max_age_s=0.25)
    results = [stream.step(numbered_frame(n)) for n in range(4)]
    assert [r.is_key for r in results] == [True, False, False, True]
    assert results[3].reason == 'max_age'
    assert results[3].reset_cause is None


def test_unstamped_frames_follow_each_other():
    stream, _ = make_stream(interval=2)
    results = [stream.step(numbered_frame(n, stamp_ns=0)) for n in range(4)]
    assert [r.is_key for r in results] == [True, False, True, False]
    assert {r.reset_cause for r in results} == {None}


def test_reset_is_reported_once_by_the_next_frame():
    stream, _ = make_stream(interval=10)
    stream.step(numbered_frame(0))
    stream.reset()
    results = [stream.step(numbered_frame(n)) for n in (1, 2)]
    assert [r.reset_cause for r in results] == [ResetCause.REQUESTED, None]
    assert [r.is_key for r in results] == [True, False]


def test_backend_error_is_raised_and_the_next_frame_starts_afresh():
    stream, backend = make_stream(interval=10)
    backend.fail_on = {1}
    stream.step(numbered_frame(0))
    with pytest.raises(RuntimeError, match='frame 1 fails'):
        stream.step(numbered_frame(1))
    result = stream.step(numbered_frame(2))
    assert result.is_key
    assert result.reset_cause is ResetCause.ERROR


def test_interval_changed_while_running_keeps_the_key_frame():
    stream, _ = make_stream(interval=10)
    for n in range(3):
        stream.step(numbered_frame(n))
    stream.configure(KeyframeConfig(interval=4))
    assert [stream.step(numbered_frame(n)).is_key for n in range(3, 9)] == [
        False,
        True,
        False,
        False,
        False,
        True,
    ]


def test_cameras_never_share_a_key_frame():
    backend = FakeBackend()
    engine = Engine(backend, KeyframeConfig(interval=10))
    engine.step(numbered_frame(1, camera='left'))
    right = engine.step(numbered_frame(2, camera='right'))
    left = engine.step(numbered_frame(3, camera='left'))
    assert right.is_key
    assert backend.calls == ['extract 1', 'extract 2', 'propagate 1->3']
    assert left.camera == 'left'
    with pytest.raises(ConfigError, match="'left'.*'right'"):
        engine.stream('left').step(numbered_frame(4, camera='right'))


def test_engine_reset_and_configure_reach_every_camera():
    engine = Engine(FakeBackend(), KeyframeConfig(interval=10))
    for camera in ('left', 'right'):
        engine.step(numbered_frame(0, camera=camera))
    engine.reset()
    assert all(engine.step(numbered_frame(1, camera=camera)).is_key for camera in ('left', 'right'))
    engine.configure(KeyframeConfig(interval=1))
    assert all(engine.step(numbered_frame(2, camera=camera)).is_key for camera in ('left', 'right', 'new'))


def test_images_without_a_stamp_among_others_break_nothing():
    """Stamp 0: the source gives none. The step down to it and that up from it are no jumps in time."""
    stream, _ = make_stream(interval=10)
    seconds = [1, 0, 1.2, 0, 1.4, 0, 1.2]
    stamps = [round(s * 10**9) for s in seconds]
    results = [stream.step(numbered_frame(n, stamp_ns=stamp)) for n, stamp in enumerate(stamps)]
    assert [result.reset_cause for result in results] == [None] * 6 + [ResetCause.BACKWARD_STAMP]
    assert [result.age_s for result in results] == [0, 0, 0.2, 0.2, 0.4, 0.4, 0]
    assert [result.age_frames for result in results] == [*range(6), 0]


def test_a_key_frame_without_a_stamp_has_the_time_of_the_last_one_that_had():
    stream, _ = make_stream(interval=2)
    stamps = [10**9, 10**9 + 10**8, 0, 10**9 + 3 * 10**8]
    results = [stream.step(numbered_frame(n, stamp_ns=stamp)) for n, stamp in enumerate(stamps)]
    assert [result.reason for result in results] == [
        'no_key',
        'within_interval',
        'interval',
        'within_interval',
    ]
    assert [result.age_s for result in results] == [0, 0.1, 0, 0.2]


def test_a_clock_that_is_set_while_images_come_is_one_gap():
    stream, _ = make_stream(interval=10)
    stamps = [0, 0, 10**18, 10**18 + 10**8]
    results = [stream.step(numbered_frame(n, stamp_ns=stamp)) for n, stamp in enumerate(stamps)]
    assert [result.reset_cause for result in results] == [None, None, ResetCause.GAP, None]
    assert [result.age_s for result in results] == [0, 0, 0, 0.1]
