# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Statistics by hand, the JSON file, and the views."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from dff_ros.config import DffConfig
from dff_ros.errors import DffError
from dff_ros.model_spec import ModelSpec
from dff_ros.report import FrameStatistics, LiveView, print_report, write_json


@pytest.fixture
def statistics():
    found = FrameStatistics()
    for index in range(10):
        is_key = index % 5 == 0
        found.add(
            is_key=is_key,
            latency_ms=50.0 if is_key else 10.0 + index,
            age_frames=index % 5,
            stages_ms={
                'extract': 40.0 if is_key else 0.0,
                'propagate': 0.0 if is_key else 6.0,
                'predict': 2.0,
            },
            reason='interval' if is_key else 'within_interval',
            reset_cause='gap' if index == 5 else '',
        )
    return found


def test_summary(statistics):
    assert statistics.summary() == {
        'processed': 10,
        'key_frames': 2,
        'idle_frames': 0,
        'skipped_frames': 0,
        'latency_ms': {'p50': 16.5, 'p99': 50.0},
        'latency_ms_key': {'p50': 50.0, 'p99': 50.0},
        'latency_ms_propagated': {'p50': 15.0, 'p99': 18.93},
        'age_frames_mean': 2.0,
        'stages_ms': {'extract': 40.0, 'propagate': 6.0, 'predict': 2.0},
        'detection': None,
        'reasons': {'interval': 2, 'within_interval': 8},
        'reset_causes': {'gap': 1},
    }
    assert statistics.mean_latency_ms() == pytest.approx(
        (2 * 50 + 11 + 12 + 13 + 14 + 16 + 17 + 18 + 19) / 10
    )


def test_key_frames_made_in_the_background_are_counted_and_skipped_frames_are_not_idle():
    found = FrameStatistics()
    for index in range(6):
        found.add(
            is_key=index == 0,
            is_refreshed=index in (0, 4),
            is_idle=index in (2, 3),
            is_skipped=index == 3,
            latency_ms=10.0,
            age_frames=index,
            stages_ms={},
        )
    summary = found.summary()
    counts = ('processed', 'key_frames', 'idle_frames', 'skipped_frames')
    assert [summary[name] for name in counts] == [6, 2, 1, 1]


def test_nothing_answered_is_no_error():
    summary = FrameStatistics().summary()
    assert summary['processed'] == 0
    assert summary['latency_ms'] == {'p50': None, 'p99': None}
    assert summary['age_frames_mean'] is None


def test_json_is_written_whole(tmp_path, statistics):
    write_json(tmp_path / 'new' / 'r.json', statistics.summary())
    assert json.loads((tmp_path / 'new' / 'r.json').read_text()) == statistics.summary()
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['r.json']


def test_json_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(DffError, match=r'cannot write .*r\.json'):
        write_json(tmp_path / 'file' / 'r.json', {})


@pytest.mark.parametrize('asked, expected', [('bundle', 'flownet_half'), ('dis', 'dis'), ('zero', 'zero')])
def test_flow_in_use_is_the_bundles_own_unless_another_is_asked_for(asked, expected):
    spec = ModelSpec(
        class_names=('road',), class_colours=((1, 2, 3),), nominal_size=(32, 48), flow_source='flownet_half'
    )
    assert spec.flow_in_use(DffConfig(flow=asked).flow) == expected


def console() -> Console:
    return Console(file=io.StringIO(), width=100)


def text_of(shown: Console) -> str:
    return shown.file.getvalue()


def test_printed_report_shows_drops_and_accuracy(statistics):
    shown = console()
    report = statistics.summary() | {
        'published': 13, 'dropped': {'superseded': 2, 'transport': 1}, 'fps': 12.34, 'interval': 5,
        'source': 'street', 'miou': 61.26, 'iou_per_class': {'sky': 90.0, 'pole': None},
    }  # fmt: skip
    print_report(shown, 'title', report)
    text = text_of(shown)
    parts = ['street', '2 superseded, 1 transport', '2 (20.0 %), interval 5', '12.3', 'p50 16.5 ms', '61.3']
    for part in [*parts, 'not seen', '2.00 frames']:
        assert part in text, part


def test_live_view_is_lines_where_there_is_no_terminal():
    shown = console()
    with LiveView(shown, 'title') as view:
        view.update({'published': '3', 'frames/s': '9.5'})
        view.update({'published': '4', 'frames/s': '9.6'})  # too soon after the first
    assert text_of(shown) == 'published 3, frames/s 9.5\n'


def test_live_view_is_a_table_on_a_terminal():
    shown = Console(file=io.StringIO(), width=100, force_terminal=True)
    with LiveView(shown, 'title') as view:
        view.update({'published': '3', 'frames/s': '9.5'})
    assert 'published' in text_of(shown) and '9.5' in text_of(shown)
