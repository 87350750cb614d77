# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Bad stamps, one after the other, to one running node: each row of docs/reliability.md on stamps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip('rclpy')
from builtin_interfaces.msg import Time
from faults import Line, running_line
from ros_helpers import image_message

S = 1_000_000_000


@pytest.fixture(scope='module')
def line() -> Iterator[Line]:
    with running_line(keyframe__interval=100) as found:
        yield found


@pytest.fixture(autouse=True)
def settled(line) -> None:
    """Whatever the test before did to the stamps, the frame in hand follows the one before it."""
    line.is_good_answered()
    assert line.is_good_answered()['state'] == 'propagated'


def test_a_duplicate_stamp_is_dropped(line):
    message = image_message(9, stamp_ns=line.stamp_ns)
    good = line.assert_dropped(message, 'duplicate_stamp', 'two images with one stamp')
    assert (good['state'], good['reset_cause']) == ('propagated', '')


@pytest.mark.parametrize(
    ('later_ns', 'cause', 'cause_after'),
    [
        (-1, 'backward_stamp', ''),
        (-3600 * S, 'backward_stamp', 'gap'),
        (3 * S, 'gap', 'backward_stamp'),
        (30 * 365 * 86400 * S, 'gap', 'backward_stamp'),
    ],
    ids=['a nanosecond back', 'an hour back', 'gap', 'far future'],
)
def test_a_jump_of_the_stamp_makes_a_key_frame_and_is_counted(line, later_ns, cause, cause_after):
    before = {name: line.count(f'resets.{name}') for name in ('backward_stamp', 'gap')}
    facts = line.ask(image_message(9, stamp_ns=line.stamp_ns + later_ns))
    assert (facts['state'], facts['reset_cause']) == ('key', cause)
    assert line.count(f'resets.{cause}') == before[cause] + 1
    assert line.is_good_answered()['reset_cause'] == cause_after


def test_zero_stamps_are_answered_and_are_no_duplicates(line):
    duplicates, zeros = line.count('dropped.duplicate_stamp'), line.count('stamps.zero')
    states = [line.ask(image_message(9, stamp_ns=0))['state'] for _ in range(3)]
    assert set(states) <= {'key', 'propagated'}
    line.is_good_answered()
    assert line.count('dropped.duplicate_stamp') == duplicates
    assert line.count('stamps.zero') == zeros + 3


def test_a_bag_that_loops_begins_with_a_key_frame_each_time(line):
    before = line.count('resets.backward_stamp')
    begin_ns = line.stamp_ns
    for _ in range(3):
        line.stamp_ns = begin_ns
        states = [line.is_good_answered()['state'] for _ in range(3)]
        assert states[1:] == ['propagated', 'propagated']
    assert line.count('resets.backward_stamp') == before + 2


def test_a_camera_clock_that_wanders_backward_is_answered_frame_by_frame(line):
    before = line.count('resets.backward_stamp')
    for _ in range(3):
        line.stamp_ns -= 200_000_000
        assert line.is_good_answered()['state'] == 'key'
    assert line.count('resets.backward_stamp') == before + 3


@pytest.mark.parametrize(
    'stamp', [Time(sec=-5, nanosec=0), Time(sec=100, nanosec=4_000_000_000)], ids=['negative', 'nanosec']
)
def test_a_stamp_that_is_no_time_is_answered_with_that_stamp(line, stamp):
    message = line.next_image()
    message.header.stamp = stamp
    num_answers = len(line.peer.label_maps)
    assert line.ask(message)['state'] in ('key', 'propagated')
    line.peer.wait_for(lambda: len(line.peer.label_maps) > num_answers, 'the label map')
    assert line.peer.label_maps[-1].header == message.header
    line.is_good_answered()
