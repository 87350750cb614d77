# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Kinds of stamps: each told from the others, counted, and noted once."""

from __future__ import annotations

import pytest

pytest.importorskip('rclpy')

from dff_ros.stamps import KINDS, StampWatch

S = 1_000_000_000
NOW = 10**9 * S


def kinds_of(images: list[tuple[float, float]], clock_ns: int = 0) -> list[str]:
    """The kinds of images given by (stamp, arrival) in seconds, each answered; sorted, joined by +."""
    watch, found = StampWatch(), []
    for stamp_s, arrival_s in images:
        stamp_ns = round(stamp_s * S)
        kinds = watch.observe(stamp_ns, round(arrival_s * S), clock_ns, max_gap_s=2.0)
        if 'duplicate' not in kinds:
            watch.answered(stamp_ns)
        found.append('+'.join(sorted(kinds)))
    return found


@pytest.mark.parametrize(
    ('images', 'expected'),
    [
        ([(5, 1), (5.1, 1.1), (5.2, 1.2)], ['', '', '']),
        ([(5, 1), (5, 1.1), (5.1, 1.2)], ['', 'duplicate', '']),
        ([(5, 1), (5.1, 1.1), (5, 1.2), (5.1, 1.3)], ['', '', 'backward', '']),  # a bag that loops
        ([(5, 1), (15, 11)], ['', 'pause']),  # a camera that was away
        ([(5, 1), (7.1, 1.1), (7.2, 1.2)], ['', 'forward_jump', '']),
        ([(5, 1), (5.1, 60), (5.2, 60.1)], ['', 'held', '']),  # a bag that was paused
        ([(0, 1), (0, 1.1)], ['zero', 'zero']),  # no duplicates
        ([(5, 1), (0, 1.1), (5.2, 1.2)], ['', 'zero', '']),
        ([(5, 1), (0, 1.1), (5, 1.2)], ['', 'zero', '']),
        ([(0, 1), (0, 9)], ['zero', 'held+zero']),
        ([(0, 1), (5e8, 1.1)], ['zero', '']),  # the clock of the camera was set
    ],
    ids=['plain', 'duplicate', 'loop', 'pause', 'jump', 'held', 'zeros', 'zero between', 'zero then the same',
         'zeros after a pause', 'clock set'],
)  # fmt: skip
def test_each_kind_is_told_from_the_others(images, expected):
    assert kinds_of(images) == expected


@pytest.mark.parametrize(
    ('ahead_s', 'kind'), [(0.4, ''), (0.6, 'future'), (-4.9, ''), (-5.1, 'past'), (-1e8, 'past')]
)
def test_stamps_are_compared_with_the_nodes_clock(ahead_s, kind):
    assert kinds_of([(NOW / S + ahead_s, 1)], clock_ns=NOW) == [kind]


def test_a_clock_without_time_and_a_stamp_that_is_none_are_not_compared():
    assert kinds_of([(5, 1)], clock_ns=0) == ['']
    assert kinds_of([(0, 1)], clock_ns=NOW) == ['zero']


def test_an_image_that_was_not_answered_has_no_duplicate():
    watch = StampWatch()
    watch.observe(5 * S, 1, 0, 2.0)
    assert watch.observe(5 * S, 2, 0, 2.0) == frozenset()
    assert watch.counts == {}


def test_every_kind_is_counted_and_noted_once():
    watch = StampWatch()
    notes: list[str] = []
    for stamp_ns in (0, 0, NOW + S, NOW + 2 * S, NOW - 6 * S, NOW - 7 * S, NOW + S):
        kinds = watch.observe(stamp_ns, 1, NOW, 2.0)
        notes += watch.notes(kinds, stamp_ns, NOW)
    assert watch.counts == {'zero': 2, 'future': 3, 'past': 2, 'backward': 2, 'forward_jump': 1}
    assert set(watch.counts) < set(KINDS)
    assert [note.split(':')[0] for note in notes] == [
        'images have stamp 0',
        "image stamps are 1.0 s ahead of the node's clock",
        "image stamps are 6.0 s behind the node's clock",
    ]
    assert 'keyframe.max_interval' in notes[0]
    assert 'use_sim_time:=true' in notes[1]
