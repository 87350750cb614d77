# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Files of boxes, by their content."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_backend import numbered_frame

from dff_ros.box_file import BoxWriter
from dff_ros.errors import DffError
from dff_ros.types import Detections, StepResult

NAMES = ('car', 'pedestrian')


def result(found: Detections | None, number: int = 3) -> StepResult:
    frame = numbered_frame(number, frame_id='seq1')
    return StepResult(
        stamp_ns=frame.stamp_ns,
        frame_id=frame.frame_id,
        camera='',
        is_key=False,
        reason='',
        reset_cause=None,
        age_frames=2,
        age_s=0.2,
        detections=found,
    )


FOUND = Detections(
    np.array([(0.1, 2, 30.3, 40), (5, 6, 7.5, 8)], np.float32),
    np.array([1, 0]),
    np.array([0.9, 0.3], np.float32),
)
NONE = Detections.none()


def write(path, *answers):
    with BoxWriter(path, NAMES) as writer:
        for number, found in enumerate(answers):
            writer.write(number, (36, 48), result(found, number))
        assert not path.exists()
    return writer


def test_lines_have_every_frame_on_which_detection_ran(tmp_path):
    path = tmp_path / 'new' / 'boxes.jsonl'
    assert write(path, FOUND, None, NONE).is_written
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0] == {
        'frame': 0,
        'sequence': 'seq1',
        'stamp_ns': 1_000_000_000,
        'size': [36, 48],
        'is_key': False,
        'age_frames': 2,
        'boxes': [
            {'class': 'pedestrian', 'class_id': 1, 'score': 0.9, 'box_xyxy': [0.1, 2, 30.3, 40]},
            {'class': 'car', 'class_id': 0, 'score': 0.3, 'box_xyxy': [5, 6, 7.5, 8]},
        ],
    }
    assert [(line['frame'], len(line['boxes'])) for line in lines] == [(0, 2), (2, 0)]
    assert np.float32(lines[0]['boxes'][0]['box_xyxy'][2]) == FOUND.boxes_xyxy[0, 2]  # no digit is lost
    assert [path.name for path in path.parent.iterdir()] == ['boxes.jsonl']


def test_coco_results(tmp_path):
    path = tmp_path / 'boxes.json'
    write(path, NONE, FOUND, NONE)
    entries = json.loads(path.read_text())
    assert [(entry['image_id'], entry['category_id'], entry['score']) for entry in entries] == [
        (1, 2, 0.9),
        (1, 1, 0.3),
    ]
    assert entries[0]['bbox'] == pytest.approx([0.1, 2, 30.2, 38])
    assert entries[1]['bbox'] == [5, 6, 2.5, 2]


def test_pycocotools_reads_the_results(tmp_path):
    coco = pytest.importorskip('pycocotools.coco').COCO()
    coco.dataset = {
        'images': [{'id': 0}, {'id': 1}],
        'categories': [{'id': 1, 'name': 'car'}, {'id': 2, 'name': 'pedestrian'}],
        'annotations': [],
    }
    coco.createIndex()
    write(tmp_path / 'boxes.json', FOUND, FOUND)
    loaded = coco.loadRes(str(tmp_path / 'boxes.json'))
    assert [len(loaded.getAnnIds(imgIds=[number])) for number in (0, 1)] == [2, 2]


@pytest.mark.parametrize(('name', 'content'), [('b.json', '[]\n'), ('b.jsonl', None)])
def test_frames_without_objects_make_a_valid_file(tmp_path, name, content):
    write(tmp_path / name, NONE, NONE)
    text = (tmp_path / name).read_text()
    assert (
        text == content if content else [json.loads(line)['boxes'] for line in text.splitlines()] == [[], []]
    )


def test_without_a_frame_nothing_is_written(tmp_path):
    assert not write(tmp_path / 'b.json', None).is_written
    assert list(tmp_path.iterdir()) == []


def test_what_was_written_is_kept_when_the_run_breaks_off(tmp_path):
    with pytest.raises(KeyboardInterrupt), BoxWriter(tmp_path / 'b.json', NAMES) as writer:
        writer.write(0, (36, 48), result(FOUND))
        raise KeyboardInterrupt
    assert len(json.loads((tmp_path / 'b.json').read_text())) == 2


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(DffError, match=r'cannot write .*file/b\.json'):
        write(tmp_path / 'file' / 'b.json', FOUND)
    with pytest.raises(DffError, match=r'must end in one of \.jsonl, \.json'):
        BoxWriter(tmp_path / 'b.csv', NAMES)
