# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""What is told about a frame: its state, and the texts made of it."""

from __future__ import annotations

import numpy as np
import pytest

from dff_ros.backends.base import BackendInfo
from dff_ros.config import DffConfig
from dff_ros.frame_facts import FrameFacts, Setup, Totals, state_of, tasks_of
from dff_ros.types import Detections, ResetCause, Segmentation, StepResult, Timings

BACKEND = BackendInfo('fake', 'cpu', 'none', 1, 'asked for', 'cpu', 'int8', fallback='no GPU')
LABELS = Segmentation(np.zeros((2, 2), np.uint8), np.full((2, 2), 200, np.uint8))


def result(**changes: object) -> StepResult:
    """Of a propagated frame."""
    values: dict[str, object] = {
        'stamp_ns': 1, 'frame_id': '', 'camera': '', 'is_key': False, 'reason': 'within_interval',
        'reset_cause': None, 'age_frames': 2, 'age_s': 0.25, 'segmentation': LABELS, 'mean_confidence': 0.75,
        'share_unknown': 0.125,
    }  # fmt: skip
    return StepResult(**(values | changes))


@pytest.mark.parametrize(
    ('changes', 'state'),
    [
        ({}, 'propagated'),
        ({'is_key': True, 'reason': 'interval'}, 'key'),
        ({'is_key': True, 'reason': 'no_key', 'share_unknown': 0.75}, 'key'),
        ({'reason': 'deadline'}, 'degraded'),
        ({'reason': 'refreshing'}, 'degraded'),
        ({'reason': 'interval'}, 'propagated'),  # handed over to the worker
        ({'share_unknown': 0.5}, 'propagated'),
        ({'share_unknown': 0.5001}, 'degraded'),
        ({'segmentation': None, 'share_unknown': None, 'detections': Detections.none()}, 'propagated'),
        ({'segmentation': None, 'share_unknown': None, 'reason': 'nothing_due'}, 'idle'),
        ({'segmentation': None, 'share_unknown': None, 'reason': 'deadline', 'is_skipped': True}, 'skipped'),
    ],
)
def test_the_state_of_a_frame(changes, state):
    assert state_of(result(**changes)) == state


def test_values_of_an_answered_frame():
    facts = FrameFacts(
        state='propagated',
        reason='within_interval',
        camera='front',
        result=result(timings=Timings(propagate_ms=3.5, total_ms=5.0), reset_cause=ResetCause.GAP),
        convert_ms=0.5,
        latency_ms=7.5,
        setup=Setup(config=DffConfig(), backend=BACKEND),
        camera_info='published',
        totals=Totals(
            received=9, processed=6, pending=1, dropped={'conversion': 2}, lost=3, resets={'gap': 1},
            camera_infos_refused=4,
        ),
    )  # fmt: skip
    values = facts.values()
    expected = {
        'state': 'propagated', 'is_key': False, 'reason': 'within_interval', 'is_refreshed': False,
        'reset_cause': 'gap', 'age_frames': 2, 'age_s': 0.25, 'mean_confidence': 0.75,
        'share_unknown': 0.125, 'motion_px': '', 'tasks': 'segmentation', 'num_detections': '',
        'convert_ms': 0.5, 'propagate_ms': 3.5, 'total_ms': 5.0, 'latency_ms': 7.5, 'scheduler': 'fixed',
        'interval': 5, 'refresh': 'inline',
        'backend': 'fake', 'device': 'cpu', 'provider': 'cpu', 'precision': 'int8', 'fallback': 'no GPU',
        'camera': 'front', 'camera_info': 'published', 'lost': 3,
        'received': 9, 'processed': 6, 'pending': 1, 'dropped': 2, 'dropped.conversion': 2, 'resets.gap': 1,
        'camera_info.refused': 4,
    }  # fmt: skip
    assert {name: values[name] for name in expected} == expected
    assert list(values)[0] == 'state'


def test_values_of_a_frame_without_an_answer_hold_no_answer():
    dropped = FrameFacts(state='dropped', reason='conversion', detail='empty').values()
    assert (dropped['state'], dropped['reason'], dropped['detail']) == ('dropped', 'conversion', 'empty')
    skipped = result(segmentation=None, is_skipped=True, is_refreshed=True, reason='deadline')
    told = FrameFacts(state='skipped', reason='deadline', detail='late', result=skipped).values()
    assert (told['is_refreshed'], told['reset_cause'], told['detail']) == (True, '', 'late')
    for values in (dropped, told):
        assert not values.keys() & {'tasks', 'age_s', 'mean_confidence', 'total_ms', 'latency_ms', 'backend'}
        assert values['received'] == 0


def test_tasks_are_those_with_an_answer_even_an_empty_one():
    assert tasks_of(result(detections=Detections.none())) == ['segmentation', 'detection']
    assert tasks_of(result(segmentation=None)) == []
