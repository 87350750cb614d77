# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff eval --task detection`: what is asked of the backend, which boxes count, figures, the command."""

from __future__ import annotations

import dataclasses
import json
import types
from contextlib import closing

import cv2
import numpy as np
import pytest
from eval_helpers import SPEC, Clip, StaleBackend, evaluated, row
from PIL import Image
from tiny_models import moving_clip

from dff_ros import cli, contenders, evaluator
from dff_ros.backends.base import open_backend
from dff_ros.config import DetectionConfig, DffConfig
from dff_ros.data.video_set import Boxes
from dff_ros.errors import ConfigError
from dff_ros.eval_detection import SCORE_THRESHOLD
from dff_ros.evaluation.precision import average_precision
from dff_ros.evaluation.truth import Objects, Truth
from dff_ros.nets.complexity import part_gmac
from dff_ros.types import Detections

STEP = 2
WIDTH = 8
"""The object of frame n has its left edge at 2n and is 8 wide: IoU 0.6 after one frame, 1/3 after two."""


def box_of(number: int) -> tuple[float, float, float, float]:
    return STEP * number, 10, STEP * number + WIDTH, 20


class Detector(StaleBackend):
    """Finds the object of the feature's number (class 1) with score 0.9, and a false one of class 0."""

    def detect(self, feature, source_size, nms_iou, score_threshold):
        self.calls.append(f'detect {source_size} {nms_iou} {score_threshold}')
        boxes = np.array([box_of(feature), (0, 25, 9, 31)], np.float32)
        return Detections(boxes, np.array([1, 0]), np.array([0.9, 0.4], np.float32))


def boxes_of(*rows, classes=None, ignored=()) -> Boxes:
    number = len(rows)
    return Boxes(
        boxes_xyxy=np.array(rows, np.float32).reshape(-1, 4),
        class_ids_N=np.zeros(number, np.int64) if classes is None else np.array(classes, np.int64),
        track_ids_N=np.arange(number),
        visibility_N=np.ones(number, np.float32),
        is_ignored_N=np.isin(np.arange(number), ignored),
    )


def boxed_clip(numbers, names=('pedestrian',)) -> Clip:
    """Images filled with their number, with the object of that number."""
    clip = Clip([np.full((32, 48, 3), number, np.uint8) for number in numbers])
    clip.boxes, clip.box_class_names = [boxes_of(box_of(number)) for number in numbers], names
    return clip


@pytest.fixture
def calls(monkeypatch):
    """Every bundle knows cars and pedestrians and has Detectors, which write into this list."""
    found: list[str] = []
    spec = dataclasses.replace(SPEC, box_class_names=('car', 'pedestrian'))
    bundle = types.SimpleNamespace(spec=spec, name='fake', stride=16)
    monkeypatch.setattr(evaluator, 'open_bundle', lambda name: bundle)
    monkeypatch.setattr(
        contenders, '_open_backend', lambda bundle, config, setup: Detector(setup.flow, found)
    )
    monkeypatch.setattr(contenders, 'count_gmac', lambda *args: None)
    return found


def detected(source, methods, intervals, config=None, **changes):
    return evaluated(source, methods, intervals, config, task='detection', **changes)


def test_figures_by_hand(calls):
    report = detected(boxed_clip(range(6)), ('dff', 'copy'), (1, 2, 3))
    assert (report['task'], report['classes'], report['num_objects']) == ('detection', ['pedestrian'], 6)
    assert (report['per_frame_ap50'], report['per_frame_ap']) == (100.0, 100.0)
    dff = row(report, 'dff', 3)
    # Its boxes are those of the key: IoU 0.6 at offset 1 (three of ten thresholds), 1/3 at offset 2.
    assert (dff['by_offset'], dff['ap_by_offset']) == ([100.0, 100.0, 0.0], [100.0, 30.0, 0.0])
    assert (dff['ap50'], dff['loss'], dff['ap']) == (66.67, 33.33, pytest.approx(130 / 3, abs=0.01))
    assert (dff['worst_offset'], dff['worst_ap50']) == (2, 0.0)
    assert dff['ap50_per_class'] == {'pedestrian': 66.67}
    assert row(report, 'dff', 2)['ap50'] == 100.0
    # Copied features have an error of one object here: IoU 1 at offset 1, 0.6 at offset 2.
    assert row(report, 'copy', 3)['ap_by_offset'] == [100.0, 100.0, 30.0]
    # A step of 2 px: mean IoU with the frames around it 0.6, 1/3, 1/7, 0 and 0.
    assert dff['ap50_by_motion'] == {'slow': None, 'medium': None, 'fast': 66.67}
    assert dff['ms_per_frame'] > 0 and dff['flow'] == 'flownet_half'
    assert (report['labelled'], report['num_answered']) == (True, 6)


def test_each_pair_is_propagated_once_and_boxes_are_collected_at_a_low_score(calls):
    detected(boxed_clip(range(4)), ('dff', 'copy'), (1, 3))
    pairs = ['0->1', '1->2', '0->2', '2->3', '1->3']
    for flow in ('bundle', 'zero'):
        assert [call for call in calls if call.startswith(flow)] == [f'{flow} {pair}' for pair in pairs]
    detections = [call for call in calls if call.startswith('detect')]
    assert detections == [f'detect (32, 48) 0.3 {SCORE_THRESHOLD}'] * (4 + 2 * len(pairs))
    calls.clear()
    config = DffConfig(detection=DetectionConfig(nms_iou=0.5, score_threshold=0.8))  # that of a stream
    detected(boxed_clip(range(1)), ('dff',), (1,), config)
    assert f'detect (32, 48) 0.5 {SCORE_THRESHOLD}' in calls


def test_only_the_classes_in_common_count(calls):
    """The data do not label cars, so that finding one is no error; the bundle does not know dogs."""
    clip = boxed_clip(range(3), names=('dog', 'pedestrian'))
    clip.boxes = [boxes_of(box_of(n), (20, 0, 30, 10), classes=[1, 0]) for n in range(3)]
    report = detected(clip, ('dff',), (1, 2))
    assert (report['per_frame_ap50'], report['num_objects']) == (100.0, 3)
    assert report['notes'] == [
        'not counted, as the data have no such class: car',
        'not counted, as the bundle has no such class: dog',
    ]
    clip = boxed_clip(range(3), names=('car', 'pedestrian'))  # the same boxes are cars now
    report = detected(clip, ('dff',), (1, 2))
    assert report['per_frame_ap50_per_class'] == {'car': 0.0, 'pedestrian': None}
    assert report['notes'] == []


def test_ignored_boxes_count_neither_way(calls):
    clip = boxed_clip(range(3))
    clip.boxes[0] = boxes_of((40, 10, 48, 20))  # one is found elsewhere: two of three, after a false one
    report = detected(clip, ('dff',), (1,))
    assert report['per_frame_ap50'] == pytest.approx(100 * 67 / 101 * 2 / 3, abs=0.01)
    clip.boxes[0] = boxes_of((0, 0, 48, 32), ignored=[0])
    report = detected(clip, ('dff',), (1,))
    assert (report['per_frame_ap50'], report['num_objects']) == (100.0, 2)
    clip.boxes[0] = boxes_of((0, 0, 3, 32), ignored=[0])  # covers too little of what is found
    assert detected(clip, ('dff',), (1,))['per_frame_ap50'] == pytest.approx(66.67)


def test_only_frames_that_were_looked_at_are_answered(calls):
    clip = boxed_clip(range(6))
    for index in (0, 1, 3, 4):
        clip.boxes[index] = None
    clip.boxes[5] = boxes_of()  # nothing there
    report = detected(clip, ('dff',), (1, 2))
    assert [call for call in calls if call.startswith('extract')] == [f'extract {n}' for n in (2, 1, 5, 4)]
    assert (report['num_frames'], report['num_answered'], report['num_objects']) == (6, 2, 1)


def test_what_cannot_be_compared_is_refused(calls, monkeypatch):
    with pytest.raises(ConfigError, match=r'clip has no boxes: give data that has them, as mot:PATH'):
        detected(boxed_clip(range(3), names=()), ('dff',), (1,))
    with pytest.raises(
        ConfigError, match=r"none of its box classes \(dog\) is one of the bundle's \(car, pedestrian\)"
    ):
        detected(boxed_clip(range(3), names=('dog',)), ('dff',), (1,))
    with pytest.raises(
        ConfigError, match='method clockwork is for segmentation, not detection: leave it out'
    ):
        detected(boxed_clip(range(3)), ('dff', 'clockwork'), (1,))
    with pytest.raises(ConfigError, match="unknown task 'boxes'; known are segmentation, detection"):
        evaluated(boxed_clip(range(3)), ('dff',), (1,), task='boxes')
    bundle = types.SimpleNamespace(spec=SPEC, name='fake', stride=16)
    monkeypatch.setattr(evaluator, 'open_bundle', lambda name: bundle)
    with pytest.raises(ConfigError, match='bundle fake has no detection head; it has segmentation'):
        detected(boxed_clip(range(3)), ('dff',), (1,))
    spec = dataclasses.replace(SPEC, class_names=(), class_colours=(), box_class_names=('car',))
    bundle.spec = spec
    with pytest.raises(ConfigError, match='bundle fake has no segmentation head; it has detection'):
        evaluated(boxed_clip(range(3)), ('dff',), (1,))


def test_default_methods_leave_stage_reuse_out(calls):
    report = detected(boxed_clip(range(3)), None, (2,))
    assert [row['method'] for row in report['rows']] == ['dff', 'copy', 'dis']


@pytest.fixture
def mot(tmp_path):
    """Six frames of value 0..5 with the pedestrian of that number and an ignored region."""
    root = tmp_path / 'mot'
    (root / 'img1').mkdir(parents=True)
    (root / 'gt').mkdir()
    info = '[Sequence]\nname=M\nimDir=img1\nframeRate=30\nseqLength=6\nimWidth=48\nimHeight=32\nimExt=.jpg\n'
    (root / 'seqinfo.ini').write_text(info)
    rows = []
    for number in range(6):
        Image.fromarray(np.full((32, 48, 3), number, np.uint8)).save(root / f'img1/{number + 1:06d}.jpg')
        rows += [f'{number + 1},1,{STEP * number},10,{WIDTH},10,1,1,1', f'{number + 1},2,30,0,9,9,0,8,1']
    (root / 'gt/gt.txt').write_text('\n'.join(rows))
    return root


def test_command(calls, mot, tmp_path, capsys):
    out, png = tmp_path / 'r.json', tmp_path / 'p.png'
    flags = ['--data', f'mot:{mot}', '--frames', '3-6', '--intervals', '1,2,3', '--methods', 'copy,dff']
    argv = ['eval', '--task', 'detection', *flags]
    assert cli.main([*argv, '--json', '--out', str(out), '--plot', str(png)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads(out.read_text())
    assert [(row['method'], row['interval']) for row in report['rows']] == [
        ('copy', 1), ('copy', 2), ('copy', 3), ('dff', 1), ('dff', 2), ('dff', 3),
    ]  # fmt: skip
    assert row(report, 'dff', 3)['by_offset'] == [100.0, 100.0, 0.0]
    assert (report['frames'], report['num_objects'], report['per_frame_ap50']) == ('3-6', 4, 100.0)
    assert cv2.imread(str(png)).shape == (540, 1320, 3)
    assert not np.array_equal(cv2.imread(str(png))[100:400, 100:600], np.full((300, 500, 3), 255))
    assert cli.main(argv) == 0
    text = capsys.readouterr().out
    for part in ('AP50', 'per frame', '66.7', '0.0 @2', 'fast', 'the data have no such class: car'):
        assert part in text, part


def test_several_classes_have_a_table(calls, mot, capsys, monkeypatch):
    from dff_ros.data.layouts import mot as layout

    monkeypatch.setattr(layout, 'CLASSES', ('pedestrian', 'car'))
    assert cli.main(['eval', '--task', 'detection', '--data', str(mot), '--intervals', '3']) == 0
    text = capsys.readouterr().out
    header = next(line for line in text.splitlines() if 'slow' in line and 'method' in line)
    assert header.split() == ['method', 'l', 'car', 'pedestrian', 'slow', 'medium', 'fast']


@pytest.mark.parametrize('flag', ['--no-labels', '--all-frames'])
def test_flags_of_segmentation_are_refused(calls, mot, flag, capsys):
    assert cli.main(['eval', '--task', 'detection', '--data', str(mot), flag]) == 2
    assert f'error: {flag} is for segmentation' in capsys.readouterr().err


def test_nothing_measured_before_a_damaged_frame_is_no_crash(calls, mot, tmp_path, capsys):
    path = mot / 'img1/000003.jpg'
    path.write_bytes(path.read_bytes()[:20])
    argv = ['eval', '--task', 'detection', '--data', str(mot), '--intervals', '2', '--methods', 'dff']
    assert cli.main([*argv, '--out', str(tmp_path / 'r.json')]) == 2
    assert '000003.jpg cannot be decoded' in capsys.readouterr().err
    report = json.loads((tmp_path / 'r.json').read_text())
    assert (report['num_frames'], report['complete'], report['per_frame_ap50']) == (2, False, 100.0)


def test_boxes_are_those_of_the_shared_keys(detection_bundle):
    """Truth: the per-frame boxes with a score of at least 0.5, moved by a third of a pixel."""
    images = moving_clip((96, 128), 4, (3, 1))
    config = DffConfig(bundle=str(detection_bundle.path), num_threads=1)
    size, limits = (96, 128), (config.detection.nms_iou, SCORE_THRESHOLD)
    clip, truth, by_offset = Clip(images), Truth(), [{} for _ in range(3)]
    with closing(open_backend(detection_bundle, config)) as backend:
        keys = [backend.extract(image) for image in images]
        for frame, image in enumerate(images):
            by_offset[0][frame] = direct = backend.detect(keys[frame].feature, size, *limits)
            sure = direct.chosen(direct.scores_N >= 0.5)
            clip.boxes[frame] = boxes_of(*(sure.boxes_xyxy + 0.3), classes=sure.class_ids_N)
            boxes = clip.boxes[frame]
            one = Objects(boxes.boxes_xyxy, boxes.class_ids_N, boxes.track_ids_N, boxes.is_ignored_N)
            truth.add(frame, 0, one)
            for offset in range(1, min(frame, 2) + 1):
                feature = backend.propagate(image, keys[frame - offset]).feature
                by_offset[offset][frame] = backend.detect(feature, size, *limits)
    assert truth.num_objects >= 8
    clip.box_class_names = detection_bundle.spec.box_class_names
    report = detected(clip, ('dis', 'copy'), (1, 3), config)
    expected = [average_precision(truth, found, (0, 1)) for found in by_offset]
    dis = row(report, 'dis', 3)
    assert dis['by_offset'] == [round(one.ap50, 2) for one in expected]
    assert dis['ap_by_offset'] == [round(one.ap, 2) for one in expected]
    assert 100 >= dis['by_offset'][0] > dis['by_offset'][1] > 0
    assert dis['by_offset'] != row(report, 'copy', 3)['by_offset']
    parts = part_gmac(detection_bundle.spec, size)
    per_frame = parts.feature + parts.light + parts.detection  # not the other head
    assert report['per_frame_gmac'] == pytest.approx(per_frame, abs=1e-3) and parts.head > 0.005
