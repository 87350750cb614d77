# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Phases: key frames of cameras that began together are spread, and no limit on the age is exceeded."""

from __future__ import annotations

import pytest
from fake_backend import FakeBackend, numbered_frame
from hypothesis import given, settings
from hypothesis import strategies as st

from dff_ros.config import KeyframeConfig
from dff_ros.engine import Engine
from dff_ros.errors import ConfigError
from dff_ros.phases import Phase
from dff_ros.scheduling import Signal
from dff_ros.types import ResetCause

NAMES = ('front', 'left', 'right', 'rear')


def key_numbers(
    engine: Engine[int, int], cameras: tuple[str, ...], numbers: range, **changes: object
) -> dict[str, list[int]]:
    """The numbers of the key frames of each camera, where all give an image at the same time."""
    keys: dict[str, list[int]] = {camera: [] for camera in cameras}
    for number in numbers:
        for camera in cameras:
            frame = numbered_frame(number % 200, camera=camera, stamp_ns=(1 + number) * 10**8, **changes)
            if engine.step(frame).is_key:
                keys[camera].append(number)
    return keys


def spread_engine(cameras: tuple[str, ...] = NAMES, **settings: float) -> Engine[int, int]:
    engine = Engine(FakeBackend(), KeyframeConfig(**settings))  # type: ignore[arg-type]
    engine.spread(cameras)
    return engine


def test_the_first_interval_of_each_camera_is_shorter_by_its_share():
    assert key_numbers(spread_engine(interval=8), NAMES, range(25)) == {
        'front': [0, 8, 16, 24],
        'left': [0, 6, 14, 22],
        'right': [0, 4, 12, 20],
        'rear': [0, 2, 10, 18],
    }


def test_the_cap_in_seconds_is_spread_too():
    keys = key_numbers(spread_engine(NAMES[:2], interval=1000, max_age_s=0.75), NAMES[:2], range(17))
    assert keys == {'front': [0, 8, 16], 'left': [0, 4, 12]}  # the first above 0.75 s, and above 0.375 s


def test_a_camera_alone_has_whole_intervals():
    assert key_numbers(spread_engine(('',), interval=5), ('',), range(11)) == {'': [0, 5, 10]}


def test_streams_that_are_reset_together_are_spread_again():
    engine = spread_engine(interval=8)
    key_numbers(engine, NAMES, range(5))
    engine.reset(ResetCause.REQUESTED)
    keys = key_numbers(engine, NAMES, range(5, 20))
    assert keys == {'front': [5, 13], 'left': [5, 11, 19], 'right': [5, 9, 17], 'rear': [5, 7, 15]}


def test_an_interval_changed_in_the_first_one_is_shortened_in_proportion():
    engine = spread_engine(interval=100)
    key_numbers(engine, NAMES, range(2))
    engine.configure(KeyframeConfig(interval=4))
    keys = key_numbers(engine, NAMES, range(2, 9))
    assert keys == {'front': [4, 8], 'left': [3, 7], 'right': [2, 6], 'rear': [2, 6]}


def test_the_answer_tells_the_true_age():
    engine = spread_engine(NAMES[:2], interval=10)
    results = [engine.step(numbered_frame(number, camera='left')) for number in range(4)]
    assert [result.age_frames for result in results] == [0, 1, 2, 3]
    assert [result.age_s for result in results] == pytest.approx([0, 0.1, 0.2, 0.3])


@settings(max_examples=40)
@given(count=st.integers(1, 6), interval=st.integers(1, 12))
def test_as_few_cameras_as_can_be_refresh_at_a_time(count, interval):
    """Of N cameras that began together, at most ceil(N / l) refresh with one image from the second on."""
    cameras = tuple(f'camera{index}' for index in range(count))
    keys = key_numbers(spread_engine(cameras, interval=interval, max_age_s=3600), cameras, range(30))
    for number in range(1, 30):
        assert sum(number in of_camera for of_camera in keys.values()) <= -(-count // interval)
    for of_camera in keys.values():
        assert of_camera[0] == 0
        gaps = [later - earlier for earlier, later in zip(of_camera, of_camera[1:], strict=False)]
        assert all(gap == interval for gap in gaps[1:]) and all(0 < gap <= interval for gap in gaps[:1])


@given(
    count=st.integers(1, 12),
    index=st.integers(0, 11),
    frames=st.integers(0, 1000),
    seconds=st.floats(0, 3600),
)
def test_a_phase_never_makes_a_key_frame_younger(count, index, frames, seconds):
    signal = Signal(frames, seconds, change=0.25, key_change=0.5)
    seen = Phase(index % count, count).in_first_interval(signal)
    assert seen.frames_since_key >= frames
    assert seen.seconds_since_key >= seconds * (1 - 1e-12)
    assert (seen.change, seen.key_change, seen.measured) == (0.25, 0.5, None)
    if index % count == 0:
        assert seen.frames_since_key == frames


@pytest.mark.parametrize(('index', 'count'), [(-1, 2), (2, 2), (0, 0)])
def test_a_phase_outside_its_streams_is_refused(index, count):
    with pytest.raises(ConfigError, match=f'phase {index} of {count}'):
        Phase(index, count)
