# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff run` with detection: boxes in the files and the report, tasks switched off, cadence."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from fake_backend import fake_boxes
from test_run import SPEC, backend, run, video  # noqa: F401 (fixtures)

from dff_ros import runner
from dff_ros.config import DffConfig
from dff_ros.model_spec import ModelSpec
from dff_ros.video import VideoReader

BOX_SPEC = dataclasses.replace(SPEC, box_class_names=('car', 'pedestrian'))


@pytest.fixture
def detecting(backend, monkeypatch):  # noqa: F811
    """The backend of a bundle with both heads."""
    use_spec(monkeypatch, BOX_SPEC)
    return backend


def use_spec(monkeypatch, spec: ModelSpec) -> None:
    import types

    monkeypatch.setattr(
        runner,
        'open_bundle',
        lambda name: types.SimpleNamespace(spec=spec, name=name, stride=16, confidence=None),
    )


def read(path):
    return json.loads(path.read_text())


def test_boxes_of_every_frame_are_written_and_counted(detecting, video, tmp_path, capsys):  # noqa: F811
    boxes, report_path, out = (tmp_path / name for name in ('b.jsonl', 'r.json', 'o.mp4'))
    argv = [video, '--interval', 5, '--boxes', boxes, '--report', report_path, '--out', out]
    assert run(*argv, '--detection.max_detections', 1) == 0
    lines = [json.loads(line) for line in boxes.read_text().splitlines()]
    assert [line['frame'] for line in lines] == list(range(12))
    assert [line['is_key'] for line in lines] == [n % 5 == 0 for n in range(12)]
    features = [int(call.split()[1]) for call in detecting.calls if call.startswith('detect')]
    for line, feature in zip(lines, features, strict=True):
        expected = fake_boxes(feature).boxes_xyxy[0].tolist()
        assert line['boxes'] == [
            {'class': 'car', 'class_id': 0, 'score': 0.9, 'box_xyxy': pytest.approx(expected)}
        ]
        assert line['size'] == [32, 48]
    report = read(report_path)
    assert report['detection'] == {'frames': 12, 'boxes_mean': 1.0}
    assert report['stages_ms']['predict_detection'] > 0
    assert (report['tasks'], report['idle_frames']) == (['segmentation', 'detection'], 0)
    text = capsys.readouterr().out
    assert '1.00 on 12 frames' in text and f'wrote {boxes}' in text
    with VideoReader(out) as reader:
        assert len(list(reader)) == 12


def test_json_has_the_figures_of_detection(detecting, video, tmp_path, capsys):  # noqa: F811
    assert run(video, '--json', '--boxes', tmp_path / 'b.json') == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed['detection'] == {'frames': 12, 'boxes_mean': 2.0}
    assert len(read(tmp_path / 'b.json')) == 24


def test_a_task_switched_off_leaves_no_trace(detecting, video, tmp_path):  # noqa: F811
    assert (
        run(video, '--tasks', 'detection', '--report', tmp_path / 'r.json', '--out', tmp_path / 'o.mp4') == 0
    )
    report = read(tmp_path / 'r.json')
    assert (report['tasks'], report['processed']) == (['detection'], 12)
    assert 'predict_segmentation' not in report['stages_ms']
    assert run(video, '--tasks', 'segmentation', '--report', tmp_path / 'r.json') == 0
    report = read(tmp_path / 'r.json')
    assert report['detection'] is None and 'predict_detection' not in report['stages_ms']


def test_cadence_thins_out_the_answers(detecting, video, tmp_path, capsys):  # noqa: F811
    argv = ['--segmentation.every', 4, '--detection.every', 3, '--labels-out', tmp_path / 'labels']
    assert run(video, *argv, '--boxes', tmp_path / 'b.jsonl', '--report', tmp_path / 'r.json') == 0
    lines = [json.loads(line) for line in (tmp_path / 'b.jsonl').read_text().splitlines()]
    assert [line['frame'] for line in lines] == [0, 3, 6, 9]
    assert sorted(path.stem for path in (tmp_path / 'labels').iterdir()) == ['000000', '000004', '000008']
    report = read(tmp_path / 'r.json')
    assert (report['processed'], report['idle_frames'], report['detection']['frames']) == (12, 6, 4)
    assert 'idle, no task due' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        (
            ['--tasks', 'segmentation', '--boxes', 'b.json'],
            'nothing to write to b.json: detection does not run',
        ),
        (
            ['--tasks', 'detection', '--labels-out', 'new'],
            'nothing to write to new: segmentation does not run',
        ),
        (['--tasks', 'tracking'], "tasks: got 'tracking', but the bundle has segmentation, detection"),
        (['--detection.classes', 'cat'], "got 'cat', but the bundle detects car, pedestrian"),
        (['--boxes', 'b.csv'], 'the file name must end in one of .jsonl, .json'),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(detecting, video, capsys, argv, message):  # noqa: F811
    assert run(video, *argv) == 2
    assert message in capsys.readouterr().err
    assert detecting.calls == []


def test_a_bundle_without_segmentation_runs(detecting, video, tmp_path, monkeypatch):  # noqa: F811
    spec = dataclasses.replace(BOX_SPEC, class_names=(), class_colours=())
    use_spec(monkeypatch, spec)
    assert run(video, '--boxes', tmp_path / 'b.jsonl', '--out', tmp_path / 'o.mp4') == 0
    assert len((tmp_path / 'b.jsonl').read_text().splitlines()) == 12


def test_the_boxes_are_in_the_video(detecting, video, tmp_path):  # noqa: F811
    argv = [video, '--tasks', 'detection', '--num-frames', 1, '--out']
    for name, threshold in (('boxes.mp4', 0.5), ('none.mp4', 0.99)):
        assert run(*argv, tmp_path / name, '--detection.score_threshold', threshold) == 0
    pictures = []
    for name in ('boxes.mp4', 'none.mp4'):
        with VideoReader(tmp_path / name) as reader:
            pictures.append(next(iter(reader))[0].astype(int))
    changed = np.nonzero(np.abs(pictures[0] - pictures[1]).max(axis=2) > 60)
    assert changed[1].size and changed[1].min() >= pictures[0].shape[1] // 2 - 8  # in the overlay


def test_with_pause_unread_only_what_is_kept_runs(detecting, video, tmp_path):  # noqa: F811
    def tasks_run(*argv: object) -> tuple[int, int]:
        del detecting.calls[:]
        report = tmp_path / 'r.json'
        assert run(video, '--pause_unread', '--report', report, *argv) == 0
        found = read(report)
        num_detected = sum(call.startswith('detect') for call in detecting.calls)
        return num_detected, found['idle_frames']

    assert tasks_run('--boxes', tmp_path / 'b.jsonl') == (12, 0)
    assert tasks_run('--labels', tmp_path / 'labels') == (0, 0)
    assert tasks_run('--out', tmp_path / 'o.mp4') == (12, 0)
    assert tasks_run() == (0, 12)
    assert detecting.calls[0].startswith('warm_up') and len(detecting.calls) == 2  # and close


def test_defaults_run_every_task_on_every_frame():
    config = DffConfig()
    assert (config.tasks, config.segmentation.every, config.detection.every) == ('all', 1, 1)
