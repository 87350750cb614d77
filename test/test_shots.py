# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The figures over images that were sent to a node."""

from __future__ import annotations

import pytest

from dff_ros.ros.shots import (
    BOXES,
    CONFIDENCE,
    LABELS,
    OVERLAY,
    Shot,
    answered_hz,
    count,
    drops,
    latency_ms,
    overhead,
    played_hz,
)


def shot(
    number: int,
    *,
    state: str = 'propagated',
    tasks: str = 'segmentation',
    answer_ms: float | None = 30.0,
    late_ms: float = 0.0,
    is_alone: bool = True,
    outputs: tuple[str, ...] = (LABELS,),
    **facts: str,
) -> Shot:
    """One of a camera of 10 Hz, sent `late_ms` after it was due, answered `answer_ms` after it was sent."""
    due_s = number / 10
    sent_s = due_s + late_ms / 1e3
    made = Shot(number, due_s, sent_s, is_alone, outputs)
    if answer_ms is not None:
        made.answers_s = {output: sent_s + answer_ms / 1e3 for output in outputs}
    times = {'total_ms': '20.000', 'convert_ms': '1.000', 'latency_ms': '24.000'}
    made.facts = {'state': state, 'tasks': tasks, **times, **facts}
    return made


def test_each_image_sent_is_answered_idle_or_missed():
    shots = [
        shot(0, state='key'),
        shot(1),
        shot(2, state='idle', tasks='', answer_ms=None),
        shot(3, state='skipped', answer_ms=None),
        shot(4, state='dropped', answer_ms=None),
        shot(5, state='degraded'),
    ]
    untold = Shot(6, 0.6, 0.6, False, (LABELS,))
    assert count([*shots, untold]) == {'sent': 7, 'answered': 3, 'idle': 1, 'missed': 3}


def test_an_answer_is_all_that_comes_with_its_tasks():
    both = (LABELS, CONFIDENCE, BOXES, OVERLAY)
    without_boxes = shot(0, outputs=both, tasks='segmentation')
    del without_boxes.answers_s[BOXES]
    assert without_boxes.due == (LABELS, CONFIDENCE, OVERLAY)
    assert without_boxes.is_answered
    without_confidence = shot(0, outputs=both, tasks='segmentation,detection')
    del without_confidence.answers_s[CONFIDENCE]
    assert not without_confidence.is_answered
    not_told = Shot(0, 0.0, 0.0, True, both)
    assert not_told.due == both
    idle = shot(0, state='idle', tasks='', answer_ms=None, outputs=both)
    assert idle.due == ()
    assert idle.is_complete and not idle.is_answered


def test_a_node_that_tells_nothing_answers_by_its_output():
    plain = Shot(0, 0.0, 0.0, True, (LABELS,))
    assert not plain.is_answered
    plain.answers_s[LABELS] = 0.05
    assert plain.is_answered and plain.is_complete


def test_latency_runs_from_when_the_image_was_due_to_the_last_output():
    shots = [shot(n, answer_ms=10.0 + n, late_ms=2.0) for n in range(101)]
    assert latency_ms(shots) == {'p50': 62.0, 'p90': 102.0, 'p99': 111.0, 'max': 112.0}
    two = shot(0, outputs=(LABELS, BOXES), tasks='segmentation,detection')
    two.answers_s[BOXES] = two.sent_s + 0.05
    assert latency_ms([two])['max'] == 50.0
    assert latency_ms([shot(0, state='skipped', answer_ms=None)])['p50'] is None


def test_overhead_is_what_the_engine_does_not_take():
    shots = [
        shot(0, answer_ms=30.0),
        shot(1, answer_ms=32.0, late_ms=9.0),  # when it was due does not matter
        shot(2, answer_ms=31.0, total_ms='21.500'),
        shot(3, answer_ms=200.0, is_alone=False),  # it may have waited for the one before
        shot(4, answer_ms=200.0, state='key'),
    ]
    assert overhead(shots) == {
        'frames': 3,
        'overhead_ms': 10.0,
        'convert_ms': 1.0,
        'inside_ms': 3.0,
        'transport_ms': 7.0,
        'engine_ms': 20.0,
    }
    assert overhead(shots[3:])['frames'] == 0
    assert overhead(shots[3:])['overhead_ms'] is None


def test_rates():
    shots = [shot(n, answer_ms=50.0) for n in range(11)]
    assert played_hz(shots) == pytest.approx(10.0)
    assert answered_hz(shots) == pytest.approx(11 / 1.05)
    assert answered_hz([shot(0, answer_ms=None, state='skipped')]) == 0.0


def test_drops_are_those_since_the_status_before():
    before = {'dropped': '3', 'dropped.superseded': '2', 'dropped.conversion': '1'}
    after = {'dropped': '9', 'dropped.superseded': '5', 'dropped.conversion': '1', 'dropped.deadline': '3'}
    assert drops(before, after) == {'superseded': 3, 'deadline': 3}
