# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""A teacher's boxes: how raw outputs are read, what is taken of them, and the file they are kept in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from video_files import write_frame

from dff_ros import cli
from dff_ros.data.box_table import BoxTable, VideoBoxes, read_box_table, write_box_table
from dff_ros.data.boxes import boxes_of
from dff_ros.data.teacher import Found, Teacher, decode, letterbox, suppressed, to_boxes
from dff_ros.data.teacher_config import TeacherConfig
from dff_ros.data.unlabelled import VideoRequest, open_unlabelled, parse_request
from dff_ros.errors import ConfigError, DataError

NET = (64, 96)
"""Of the made teacher: grids of 8x12, 4x6 and 2x3 cells."""
NUM_CELLS = 96 + 24 + 6
PERSON, BICYCLE, CAR, DOG, TRUCK = 0, 1, 2, 16, 7


def raw_outputs(*cells: tuple[int, tuple[float, ...], int, float]) -> np.ndarray:
    """Zeros, but for (cell, (dx, dy, log w, log h, objectness), class, score)."""
    raw = np.zeros((NUM_CELLS, 85), np.float32)
    for cell, geometry, class_id, score in cells:
        raw[cell, :5] = geometry
        raw[cell, 5 + class_id] = score
    return raw


def found_of(*rows: tuple[tuple[float, ...], float, int]) -> Found:
    edges, scores, ids = zip(*rows, strict=True)
    return Found(np.array(edges, np.float32), np.array(scores, np.float32), np.array(ids, np.int64))


def test_raw_outputs_are_cells_of_three_grids():
    raw = raw_outputs(
        (12 * 3 + 5, (0.5, 0.25, np.log(2), np.log(4), 0.5), CAR, 0.8),  # row 3, column 5 of stride 8
        (96 + 6 * 2 + 1, (-0.5, 0, 0, 0, 1.0), PERSON, 0.9),  # row 2, column 1 of stride 16
        (96 + 24 + 2, (0.5, 0.5, np.log(0.5), 0, 0.9), DOG, 0.5),  # row 0, column 2 of stride 32
        (7, (0, 0, 0, 0, 0.5), CAR, 0.5),
    )
    found = decode(raw, NET, 0.3)
    # centre 44, 26 and 16x32; centre 8, 32 and 16x16; centre 80, 16 and 16x32
    np.testing.assert_allclose(
        found.boxes_xyxy, [[36, 10, 52, 42], [0, 24, 16, 40], [72, 0, 88, 32]], rtol=1e-6
    )
    np.testing.assert_allclose(found.scores_N, [0.4, 0.9, 0.45], rtol=1e-6)
    np.testing.assert_array_equal(found.coco_ids_N, [CAR, PERSON, DOG])
    assert len(decode(raw, NET, 0.2).scores_N) == 4


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_broken_outputs_give_no_box(bad: float):
    raw = raw_outputs((3, (bad, 0, 0, 0, 0.9), CAR, 0.9), (4, (0, 0, np.nan, 0, 0.9), CAR, 0.9))
    raw[5, 4], raw[5, 7] = np.nan, 0.5
    assert len(decode(raw, NET, 0.0001).scores_N) == 0


def test_the_image_is_fitted_in_and_the_rest_is_grey():
    image = np.zeros((32, 24, 3), np.uint8)
    image[..., 0], image[..., 2] = 200, 10
    blob, factors = letterbox(image, NET)
    assert blob.shape == (1, 3, *NET) and blob.dtype == np.float32 and factors == (2.0, 2.0)
    np.testing.assert_array_equal(blob[0, :, 63, 47], [10, 0, 200])  # BGR
    np.testing.assert_array_equal(blob[0, :, 0, 48:], np.full((3, 48), 114))
    _, factors = letterbox(np.zeros((360, 640, 3), np.uint8), (416, 416))
    assert factors == (0.65, 0.65)


def test_of_overlapping_boxes_of_a_class_the_best_stays():
    found = suppressed(
        found_of(
            ((0, 0, 10, 10), 0.5, CAR),
            ((0, 0, 10, 9), 0.9, CAR),  # IoU 0.9 with the first
            ((0, 0, 10, 10), 0.7, PERSON),
            ((0, 6, 10, 16), 0.6, CAR),  # IoU 0.19
        ),
        0.5,
    )
    np.testing.assert_array_equal(found.boxes_xyxy, [[0, 0, 10, 9], [0, 0, 10, 10], [0, 6, 10, 16]])
    np.testing.assert_array_equal(found.coco_ids_N, [CAR, PERSON, CAR])


def test_cars_and_pedestrians_are_taken_and_the_unsure_ignored():
    config = TeacherConfig(sure=0.5, unsure=0.1)
    boxes = to_boxes(
        found_of(
            ((0, 0, 30, 20), 0.9, TRUCK),
            ((-5, 30, 10, 70), 0.5, PERSON),
            ((40, 30, 50, 48), 0.49, PERSON),
            ((20, 20, 40, 40), 0.9, DOG),
        ),
        (60, 80),
        config,
    )
    np.testing.assert_array_equal(boxes.boxes_xyxy, [[0, 0, 30, 20], [0, 30, 10, 60], [40, 30, 50, 48]])
    np.testing.assert_array_equal(boxes.class_ids_N, [0, 1, 1])
    np.testing.assert_array_equal(boxes.is_ignored_N, [False, False, True])


def test_who_rides_is_no_pedestrian_but_ignored():
    boxes = to_boxes(
        found_of(
            ((10, 20, 30, 50), 0.2, BICYCLE),
            ((12, 0, 28, 45), 0.9, PERSON),
            ((28, 0, 48, 50), 0.9, PERSON),  # passes beside it
        ),
        (60, 80),
        TeacherConfig(sure=0.5),
    )
    np.testing.assert_array_equal(boxes.boxes_xyxy, [[12, 0, 28, 45], [28, 0, 48, 50]])
    np.testing.assert_array_equal(boxes.is_ignored_N, [True, False])


# ---- the network


def write_teacher(path: Path, num_columns: int = 85) -> Path:
    """It sees a person of 32x40 pixels at (16, 8) of its image as surely as the first pixel is blue."""
    onnx = pytest.importorskip('onnx')
    from onnx import TensorProto, helper, numpy_helper

    raw = raw_outputs((96 + 24, (1.0, 0.875, 0.0, np.log(1.25), 0.0), PERSON, 1.0))[None, :, :num_columns]
    onehot = np.zeros((1, NUM_CELLS, num_columns), np.float32)
    onehot[0, 96 + 24, 4] = 1 / 255
    constants = {
        'raw': raw, 'onehot': onehot, 'starts': np.zeros(4, np.int64), 'ends': np.ones(4, np.int64),
        'shape': np.ones(3, np.int64),
    }  # fmt: skip
    nodes = [
        helper.make_node('Slice', ['images', 'starts', 'ends'], ['pixel']),
        helper.make_node('Reshape', ['pixel', 'shape'], ['flat']),
        helper.make_node('Mul', ['onehot', 'flat'], ['scores']),
        helper.make_node('Add', ['raw', 'scores'], ['output']),
    ]
    graph = helper.make_graph(
        nodes,
        'teacher',
        [helper.make_tensor_value_info('images', TensorProto.FLOAT, [1, 3, *NET])],
        [helper.make_tensor_value_info('output', TensorProto.FLOAT, [1, NUM_CELLS, num_columns])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, path)
    return path


def frame(blue: int) -> np.ndarray:
    return np.full((128, 192, 3), (255, 0, blue), np.uint8)


def test_the_network_runs_on_a_frame_of_twice_its_size(tmp_path: Path):
    teacher = Teacher(write_teacher(tmp_path / 't.onnx'), TeacherConfig(sure=0.5, unsure=0.1, threads=1))
    boxes = teacher.boxes(frame(255))
    np.testing.assert_allclose(boxes.boxes_xyxy, [[32, 16, 96, 96]], rtol=1e-5)
    np.testing.assert_array_equal(boxes.class_ids_N, [1])
    assert not boxes.is_ignored_N[0]
    assert teacher.boxes(frame(100)).is_ignored_N.tolist() == [True]
    assert len(teacher.boxes(frame(20)).class_ids_N) == 0
    np.testing.assert_allclose(teacher.find(frame(204)).scores_N, [0.8], rtol=1e-5)


def test_what_is_no_teacher_is_named(tmp_path: Path):
    (tmp_path / 'no.onnx').write_bytes(b'x')
    with pytest.raises(DataError, match=r'no\.onnx cannot be used as a teacher: '):
        Teacher(tmp_path / 'no.onnx', TeacherConfig())
    other = Teacher(write_teacher(tmp_path / 'o.onnx', 84), TeacherConfig(threads=1))
    with pytest.raises(DataError, match=r'o\.onnx gives \(1, 126, 84\), not \(1, 126, 85\): it is no YOLOX'):
        other.boxes(frame(0))
    with pytest.raises(ConfigError, match='unsure: got 0.6, above sure 0.5'):
        Teacher(tmp_path / 'o.onnx', TeacherConfig(sure=0.5, unsure=0.6))


# ---- the command and its file


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Two folders of three frames each; the teacher sees somebody in `a`, surely from frame 3 on."""
    import cv2

    for name, blues in (('a', (0, 60, 250)), ('b', (0, 0, 0))):
        (tmp_path / 'video' / name).mkdir(parents=True)
        for number, blue in enumerate(blues, 1):
            cv2.imwrite(str(tmp_path / f'video/{name}/{number}.png'), frame(blue)[..., ::-1])
    return tmp_path / 'video'


def teach(video: Path | str, teacher: Path, out: Path, *flags: str) -> int:
    return cli.main(
        [
            'data',
            'teach-boxes',
            str(video),
            '--teacher',
            str(teacher),
            '--out',
            str(out),
            '--threads',
            '1',
            *flags,
        ]
    )


def test_boxes_are_found_written_and_trained_with(tmp_path: Path, video: Path, capsys):
    out = tmp_path / 'boxes.json'
    assert teach(f'{video}#2-3', write_teacher(tmp_path / 't.onnx'), out) == 0
    told = capsys.readouterr().out
    assert f'wrote {out}: 1 boxes and 1 to be ignored in 4 frames' in told
    assert f'--data.unlabelled "{video}={out}"' in told
    assert str(tmp_path) not in out.read_text()
    assert json.loads(out.read_text())['teacher']['sure'] == 0.4
    table = read_box_table(out)
    assert [(v.name, v.num_frames, sorted(v.frames)) for v in table.videos] == [
        ('video/a', 3, [2, 3]), ('video/b', 3, [2, 3])
    ]  # fmt: skip
    videos = open_unlabelled(VideoRequest(video, 2, boxes=out), tmp_path)
    assert videos.box_class_names == ('car', 'pedestrian')
    assert [info.boxed for info in videos.sequences] == [(0, 1), (0, 1)]
    sure, nobody = videos.boxes(0, 1), videos.boxes(1, 0)
    assert sure is not None and nobody is not None and len(nobody.class_ids_N) == 0
    np.testing.assert_allclose(sure.boxes_xyxy, [[32, 16, 96, 96]], atol=0.01)
    assert sure.class_ids_N.tolist() == [1] and sure.is_ignored_N.tolist() == [False]
    unsure = videos.boxes(0, 0)
    assert unsure is not None and unsure.is_ignored_N.tolist() == [True]
    whole = open_unlabelled(VideoRequest(video, boxes=out), tmp_path)
    assert whole.boxes(0, 0) is None and whole.sequences[0].boxed == (1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['boxes.json', 't.onnx', 'video']


def test_the_thresholds_are_settings(tmp_path: Path, video: Path):
    out = tmp_path / 'boxes.json'
    assert teach(video, write_teacher(tmp_path / 't.onnx'), out, '--sure', '0.2', '--unsure', '0.2') == 0
    found = read_box_table(out).videos[0].frames
    assert [found[number].is_ignored_N.tolist() for number in (1, 2, 3)] == [[], [False], [False]]


def test_inputs_are_kept_and_mistakes_named(tmp_path: Path, video: Path, capsys):
    teacher = write_teacher(tmp_path / 't.onnx')
    assert teach(video, teacher, tmp_path / 'boxes.txt') == 2
    assert '--out' in capsys.readouterr().err
    assert teach(tmp_path / 'nowhere', teacher, tmp_path / 'b.json') == 2
    assert 'there is no video' in capsys.readouterr().err
    assert teach(f'{video}#7-9', teacher, tmp_path / 'b.json') == 2
    assert 'video has no frame 7' in capsys.readouterr().err
    write_frame(video / 'b/2.png', 0, (128, 100))
    assert teach(video, teacher, tmp_path / 'b.json') == 2
    assert '2.png is 100x128 pixels, the first frame 192x128: they must be equal' in capsys.readouterr().err
    assert not (tmp_path / 'b.json').exists()


def table_of(num_frames: int = 3, size: tuple[int, int] = (128, 192), count: int = 2) -> BoxTable:
    frames = {2: boxes_of([[1.004, 2, 30.5, 40]], [1], [True]), 3: boxes_of([], [])}
    return BoxTable(('dog', 'cat'), (VideoBoxes('v', size, num_frames, frames),) * count)


def test_a_table_is_read_as_it_was_written(tmp_path: Path):
    path = tmp_path / 'new/b.json'
    write_box_table(path, table_of(), {'note': 'mine'})
    found = read_box_table(path)
    assert found.class_names == ('dog', 'cat') and found.videos[1].size == (128, 192)
    boxes = found.videos[0].frames[2]
    np.testing.assert_array_equal(boxes.boxes_xyxy, np.float32([[1.0, 2, 30.5, 40]]))
    assert (boxes.class_ids_N.tolist(), boxes.is_ignored_N.tolist()) == ([1], [True])
    assert len(found.videos[0].frames[3].class_ids_N) == 0


@pytest.mark.parametrize(
    ('table', 'message'),
    [
        (table_of(4), r'boxes of 4 frames of 192x128, .*a has 3 of 192x128: make the boxes anew'),
        (table_of(size=(64, 64)), r'boxes of 3 frames of 64x64, .*a has 3 of 192x128'),
        (table_of(count=1), 'boxes of 1 videos, there are 2'),
    ],
)
def test_boxes_of_another_video_are_refused(tmp_path: Path, video: Path, table: BoxTable, message: str):
    write_box_table(tmp_path / 'b.json', table, {})
    with pytest.raises(DataError, match=message):
        open_unlabelled(VideoRequest(video, boxes=tmp_path / 'b.json'), tmp_path)


GOOD = (
    '{"format":"dff-boxes-1","classes":["a"],"videos":[{"name":"v","size":[4,3],"num_frames":2,"frames":%s}]}'
)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'cannot be read as boxes'),
        ('[]', 'is no file of boxes'),
        ('{"format":"other"}', "its format is 'other', not 'dff-boxes-1'"),
        ('{"format":"dff-boxes-1","classes":[]}', "'videos' is missing"),
        (GOOD % '{"3":[]}', 'v has no frame 3'),
        (GOOD % '{"1":[[0,0,1,1,1,0]]}', 'v, frame 1: not a number, or no class of 0 to 0'),
        (GOOD % '{"1":[[0,0,1,NaN,0,0]]}', 'v, frame 1: not a number'),
        (GOOD % '{"1":[[0,0,1,0,0,0]]}', 'v, frame 1: a box has no area'),
        (GOOD % '{"1":[[0,0,1,1,0,1,0]]}', 'v, frame 1: a box takes 6 numbers'),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / 'b.json').write_text(text)
    with pytest.raises(DataError, match=rf'b\.json.*{message}'):
        read_box_table(tmp_path / 'b.json')


def test_boxes_are_named_behind_the_video():
    assert parse_request('a/v.mp4#3-9=x/b.json', 's') == VideoRequest(
        Path('a/v.mp4'), 3, 9, None, Path('x/b.json')
    )
    assert parse_request('a@2=b.json', 's') == VideoRequest(Path('a'), fps=2.0, boxes=Path('b.json'))
    assert parse_request('a=b', 's') == VideoRequest(Path('a=b'))


@pytest.mark.data
def test_the_real_teacher_finds_people_where_they_are(shared_data: Path):
    """Of those that it is sure of, nearly all are marked; it finds half of the marked ones."""
    from dff_ros.data.layouts import open_videos

    videos = open_videos(f'mot:{shared_data / "mot16-11"}', 'all')
    teacher = Teacher(shared_data / 'weights/yolox_nano.onnx', TeacherConfig(threads=1))
    num_found = num_right = num_marked = 0
    for index in range(0, 900, 60):
        boxes, marked = teacher.boxes(videos.frame(0, index).image_HW3), videos.boxes(0, index)
        assert marked is not None
        sure = boxes.boxes_xyxy[(boxes.class_ids_N == 1) & ~boxes.is_ignored_N]
        iou = iou_of(sure, marked.boxes_xyxy)
        num_found, num_right = num_found + len(sure), num_right + int((iou.max(axis=1) > 0.5).sum())
        num_marked += int((~marked.is_ignored_N).sum())
    assert num_right / num_found > 0.85
    assert num_right / num_marked > 0.5


def iou_of(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = np.prod(np.maximum(sides, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return common / (areas[0][:, None] + areas[1][None] - common)


def test_the_documented_file_is_read(tmp_path: Path):
    text = (Path(__file__).parent.parent / 'docs/data.md').read_text(encoding='utf-8')
    (tmp_path / 'b.json').write_text(text.split('```json\n')[1].split('```')[0])
    table = read_box_table(tmp_path / 'b.json')
    (video,) = table.videos
    assert (table.class_names, video.size, video.num_frames) == (('car', 'pedestrian'), (360, 640), 900)
    assert video.frames[1].boxes_xyxy.tolist() == [[10.5, 20, 60, 80.25], [300, 40, 330, 120]]
    assert video.frames[1].is_ignored_N.tolist() == [False, True]
    assert len(video.frames[2].class_ids_N) == 0
