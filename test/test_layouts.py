# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Every layout on small made files: which frames belong together, their stamps, labels and boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import SIZE, write_cityscapes, write_folder, write_frame, write_label, write_mot

from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.data.layouts import LAYOUTS, detect_layout, open_videos
from dff_ros.data.layouts.cityscapes import CLASSES as CITY_CLASSES
from dff_ros.data.layouts.folder import read_description
from dff_ros.data.numbering import (
    frame_number,
    median_step,
    natural_key,
    runs,
    runs_in_time,
    usual_step,
)
from dff_ros.data.pair_config import PairConfig
from dff_ros.data.pairs import PairSampler, PairSource
from dff_ros.data.video_set import LabelledFrames
from dff_ros.errors import DataError

S = 1_000_000_000


def values_of(labels: np.ndarray | None, parts: int) -> list[int]:
    """The values of a label map that `write_label` divided into columns."""
    assert labels is not None and labels.shape == SIZE
    return [int(labels[0, SIZE[1] * part // parts + 1]) for part in range(parts)]


# ---- numbering


@pytest.mark.parametrize(
    ('stem', 'number'), [('000012', 12), ('img_7', 7), ('a12b_0034_left', 34), ('frame', None), ('t1.25', 25)]
)
def test_the_last_number_of_a_name_counts(stem: str, number: int | None):
    assert frame_number(stem) == number


def test_natural_order():
    assert sorted(['f10', 'f2', 'f1'], key=natural_key) == ['f1', 'f2', 'f10']


@pytest.mark.parametrize(
    ('numbers', 'step'),
    [
        ([5], 1),
        ([0, 1, 2], 1),
        ([10, 40, 70, 101], 30),
        ([1, 2, 4], 1),
        ([0, 7, 9, 30, 31, 77], None),
        ([3, 3, 3], None),
    ],
)
def test_the_usual_step(numbers: list[int], step: int | None):
    assert usual_step(numbers) == step


def test_the_median_step():
    assert median_step([30, 60, 91, 120, 4350, 4380]) == 30
    assert median_step([30, 4350]) == 4320 and median_step([8]) == 1


def test_runs_end_where_a_number_is_missing_but_not_where_one_is_a_little_late():
    assert runs([1, 2, 3, 5, 6, 6], 1) == [range(0, 3), range(3, 5), range(5, 6)]
    assert runs([870, 901, 930, 4350], 30) == [range(0, 3), range(3, 4)]
    assert runs_in_time([0, 10, 20, 45, 55, 90], 3.0) == [range(0, 5), range(5, 6)]
    assert runs([], 1) == [] and runs_in_time([4], 3.0) == [range(0, 1)]


# ---- the folder layout


def test_a_folder_gives_its_frames_in_natural_order_with_labels_and_stamps(tmp_path: Path):
    write_folder(tmp_path)
    videos = open_videos(str(tmp_path), 'train')
    assert videos.class_names == ('road', 'car', 'sky')
    assert [(info.name, len(info), info.labelled) for info in videos.sequences] == [
        ('drive', 12, (1, 9)),
        ('walk', 5, (4,)),
    ]
    assert videos.sequences[0].stamps_ns == tuple(index * S // 10 for index in range(12))
    assert [int(videos.frame(0, index).image_HW3[0, 0, 0]) for index in (0, 1, 9, 11)] == [11, 12, 20, 22]
    assert videos.frame(1, 3).stamp_ns == 3 * S // 10
    assert values_of(videos.labels(0, 1), 2) == [0, 1]
    assert values_of(videos.labels(0, 9), 2) == [2, 255]
    assert values_of(videos.labels(1, 4), 2) == [1, 255]  # 7 is void as well
    assert videos.labels(0, 0) is None
    assert videos.boxes(0, 0) is None


def test_labelled_frames_serve_per_frame_training(tmp_path: Path):
    write_folder(tmp_path)
    samples = LabelledFrames(open_videos(f'folder:{tmp_path}', 'train'))
    assert len(samples) == 3
    assert [int(samples[index].image_HW3[0, 0, 0]) for index in range(3)] == [12, 20, 54]
    assert values_of(samples[1].labels_HW, 2) == [2, 255]
    write_label(tmp_path / 'train/drive/labels/img_10.png', 2, size=(24, 30))
    with pytest.raises(DataError, match=r'img_10\.png are 30x24 pixels, the frame 32x24'):
        samples[1]


def test_colours_come_with_the_classes(tmp_path: Path):
    (tmp_path / 'classes.yaml').write_text(
        'classes: [{name: a, colour: [1, 2, 3]}, {name: b, colour: [4, 5, 6]}]'
    )
    description = read_description(tmp_path)
    assert description.colours == ((1, 2, 3), (4, 5, 6))
    assert description.fps == 30.0
    assert description.coding.allowed == '0 to 1, and 255 for void'


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        ('classes: []', 'there is no list of classes'),
        ('[a, b]', 'there is no list of classes'),
        ('classes: [a, a]', 'must differ'),
        ('classes: [a, {name: b, colour: [1, 2, 3]}]', 'every class has a colour'),
        ('classes: [{name: b, colour: [1, 2, 300]}]', '0 to 255'),
        ('classes: [a, b]\nvoid: [1]', 'void takes values from 2 to 255'),
        ('classes: [a, b]\nfps: 0', 'fps: got 0'),
        ('classes: [a, b]\nclasess: 3', 'unknown is clasess'),
        ('classes: [{colour: [1, 2, 3]}]', 'name'),
        ('classes: [a', 'cannot be read'),
    ],
)
def test_a_wrong_description_says_what_is_wrong(tmp_path: Path, text: str, named: str):
    (tmp_path / 'classes.yaml').write_text(text)
    with pytest.raises(DataError, match=named) as caught:
        read_description(tmp_path)
    assert 'classes.yaml' in str(caught.value)


def test_a_palette_image_is_its_indices(tmp_path: Path):
    image = pytest.importorskip('PIL.Image')
    write_folder(tmp_path)
    indices = np.zeros(SIZE, np.uint8)
    indices[:, 16:] = 2
    palette = image.fromarray(indices)
    palette.putpalette([200, 10, 10, 10, 200, 10, 10, 10, 200])
    palette.save(tmp_path / 'train/drive/labels/img_2.png')
    assert values_of(open_videos(str(tmp_path), 'train').labels(0, 1), 2) == [0, 2]


def test_stamps_are_read_and_a_long_gap_is_a_break(tmp_path: Path):
    write_folder(tmp_path)
    seconds = [100.0, 100.1, 100.21, 105.0, 105.1]
    rows = '\n'.join(f'{number:03d},{second}' for number, second in enumerate(seconds))
    (tmp_path / 'train/walk/stamps.csv').write_text(f'name,stamp_s\n{rows}\n')
    first, second = open_videos(str(tmp_path), 'train').sequences[1:]
    assert (first.name, second.name) == ('walk', 'walk#2')
    np.testing.assert_allclose(first.stamps_ns, [0, 0.1 * S, 0.21 * S])
    np.testing.assert_allclose(second.stamps_ns, [5.0 * S, 5.1 * S])
    assert second.labelled == (1,)


@pytest.mark.parametrize(
    ('rows', 'named'),
    [
        ('name,stamp_s\n000,1\n001,2\n002,2\n003,4\n004,5', 'stamp of 002 is not after that of 001'),
        ('name,stamp_s\n000,1\n001,2', '3 of 5 frames have no stamp, the first is 002'),
        ('a,b\n000,1', 'it takes the header name,stamp_s'),
        ('name,stamp_s\n000,soon', 'it takes the header name,stamp_s'),
    ],
)
def test_wrong_stamps_are_refused(tmp_path: Path, rows: str, named: str):
    write_folder(tmp_path)
    (tmp_path / 'train/walk/stamps.csv').write_text(rows)
    with pytest.raises(DataError, match=named):
        open_videos(str(tmp_path), 'train')


def test_a_set_with_findings_is_not_opened_and_the_check_is_pointed_to(tmp_path: Path):
    write_folder(tmp_path)
    (tmp_path / 'train/drive/frames/img_10.png').unlink()
    with pytest.raises(DataError, match=r'img_11\.png: 9 is followed by 11.*|.*labels/img_10\.png') as caught:
        open_videos(str(tmp_path), 'train')
    assert f'(2 such findings: "dff data check {tmp_path} --layout folder" lists them)' in str(caught.value)


# ---- CamVid


def write_camvid_video(root: Path, names: tuple[str, ...]) -> None:
    for index, name in enumerate(names):
        write_frame(root / f'images/train/{name}.jpg', 10 * index)
        write_label(root / f'labels/train/{name}.png', index % 11, 11)
    (root / 'splits').mkdir()
    (root / 'splits/train.txt').write_text('\n'.join(names) + '\n')


def test_camvid_is_cut_between_recordings_and_at_pauses(tmp_path: Path):
    names = ('A_00030', 'A_00060', 'A_00091', 'A_00120', 'A_04350', 'A_04380', 'B_f00000', 'B_f00030')
    write_camvid_video(tmp_path, names)
    videos = open_videos(f'camvid:{tmp_path}', 'train')
    assert videos.class_names == CAMVID_CLASSES
    assert [(info.name, len(info)) for info in videos.sequences] == [('A', 4), ('A#2', 2), ('B', 2)]
    assert all(info.labelled == tuple(range(len(info))) for info in videos.sequences)
    np.testing.assert_allclose(np.diff(videos.sequences[0].stamps_ns), [S, 31 * S / 30, 29 * S / 30], atol=1)
    assert videos.frame(1, 0).name.endswith('A_04350.jpg')
    assert values_of(videos.labels(1, 0), 2) == [4, 255]
    pairs = PairSampler([PairSource(videos, 8)], PairConfig(max_gap_s=0.0), 0)
    found = {(p.sequence, p.current, p.key) for step in range(60) for p in pairs.picks(step)}
    inside = {(s, c, k) for s, size in enumerate((4, 2, 2)) for c in range(size) for k in range(c + 1)}
    assert found == inside  # each pair within a sequence, none across


def test_camvid_s_label_maps_give_boxes(tmp_path: Path):
    write_camvid_video(tmp_path, ('0001TP_006690', '0001TP_006720'))
    labels = np.zeros(SIZE, np.uint8)
    labels[10:18, 4:16], labels[12:22, 24:28] = 8, 9
    cv2.imwrite(str(tmp_path / 'labels/train/0001TP_006720.png'), labels)
    videos = open_videos(str(tmp_path), 'train')
    (info,) = videos.sequences
    assert videos.box_class_names == info.box_classes == ('car', 'pedestrian', 'bicyclist')
    assert info.boxed == (0, 1)
    boxes = videos.boxes(0, 1)
    assert boxes is not None
    np.testing.assert_array_equal(boxes.boxes_xyxy, [[4, 10, 16, 18], [24, 12, 28, 22]])
    np.testing.assert_array_equal(boxes.class_ids_N, [0, 1])
    np.testing.assert_array_equal(boxes.is_ignored_N, [False, False])


# ---- Cityscapes


def test_cityscapes_has_19_frames_before_each_labelled_one(tmp_path: Path):
    write_cityscapes(tmp_path, (('aachen_000003', 0), ('hamburg_000000', 23), ('hamburg_000000', 100)))
    videos = open_videos(f'cityscapes:{tmp_path}', 'train')
    assert videos.class_names == CITY_CLASSES and len(CITY_CLASSES) == 19
    assert [(info.name, len(info), info.labelled) for info in videos.sequences] == [
        ('aachen_000003', 30, (19,)),
        ('hamburg_000000', 30, (19,)),
        ('hamburg_000000#2', 30, (19,)),
    ]
    assert int(videos.frame(1, 19).image_HW3[0, 0, 0]) == 42
    assert np.diff(videos.sequences[1].stamps_ns).tolist() == pytest.approx([S / 17] * 29, abs=1)
    labels = values_of(videos.labels(0, 19), 4)
    assert labels == [CITY_CLASSES.index('road'), CITY_CLASSES.index('car'), 255, 18]
    assert CITY_CLASSES[18] == 'bicycle'


def test_cityscapes_train_ids_win_over_label_ids(tmp_path: Path):
    write_cityscapes(tmp_path)
    write_label(tmp_path / 'gtFine/train/aachen/aachen_000003_000019_gtFine_labelTrainIds.png', 10, 255)
    assert values_of(open_videos(str(tmp_path), 'train').labels(0, 19), 2) == [10, 255]


# ---- MOTChallenge

MOT16_ROWS = '1,7,2.5,3,10,12,1,1,0.75\n1,8,0,0,5,5,0,12,1\n3,7,4,3,10,12,1,1,0.5\n3,9,4,3,8,8,1,3,1\n'
MOT15_ROWS = '1,1,2,3,4,5,1,-1,-1,-1\n2,1,2,3,4,5,0,-1,-1,-1\n'


def test_mot16_boxes_with_ignored_ones(tmp_path: Path):
    write_mot(tmp_path, MOT16_ROWS)
    videos = open_videos(str(tmp_path), 'all')
    assert videos.box_class_names == ('pedestrian',) and videos.class_names == ()
    (info,) = videos.sequences
    assert (info.name, info.labelled) == ('MOT16-99', ())
    assert info.stamps_ns == (0, S // 20, S // 10, 3 * S // 20)
    boxes = videos.boxes(0, 0)
    np.testing.assert_allclose(boxes.boxes_xyxy, [[2.5, 3, 12.5, 15], [0, 0, 5, 5]])
    assert boxes.is_ignored_N.tolist() == [False, True]
    assert boxes.track_ids_N.tolist() == [7, 8]
    np.testing.assert_allclose(boxes.visibility_N, [0.75, 1.0])
    assert videos.boxes(0, 1).boxes_xyxy.shape == (0, 4)
    assert videos.boxes(0, 2).is_ignored_N.tolist() == [False, True]  # class 3 is a car
    assert int(videos.frame(0, 2).image_HW3[0, 0, 0]) == 3


def test_mot15_has_no_class_and_no_visibility(tmp_path: Path):
    write_mot(tmp_path / 'train/seq', MOT15_ROWS, name='TUD')
    videos = open_videos(f'mot:{tmp_path}', 'train')
    assert videos.boxes(0, 0).is_ignored_N.tolist() == [False]
    assert videos.boxes(0, 1).is_ignored_N.tolist() == [True]
    assert videos.boxes(0, 0).visibility_N.tolist() == [1.0]


# ---- finding the layout


def test_layouts_are_recognised(tmp_path: Path):
    write_folder(tmp_path / 'a')
    write_camvid_video(tmp_path / 'b', ('A_1', 'A_2'))
    write_cityscapes(tmp_path / 'c')
    write_mot(tmp_path / 'd/seq', MOT16_ROWS)
    names = [detect_layout(tmp_path / folder) for folder in 'abcd']
    assert names == ['folder', 'camvid', 'cityscapes', 'mot'] == list(LAYOUTS)[:4]


@pytest.mark.parametrize(
    ('text', 'split', 'named'),
    [
        ('{root}/none', 'train', 'none does not exist'),
        ('folder:{root}/none', 'train', 'none does not exist'),
        ('{root}/train', 'train', r'has no known layout\. Known are: folder \(classes\.yaml\)'),
        ('{root}', 'test', "has no split 'test'; it has train, val"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path: Path, text: str, split: str, named: str):
    write_folder(tmp_path)
    with pytest.raises(DataError, match=named):
        open_videos(text.format(root=tmp_path), split)


def test_a_value_outside_the_classes_is_named_on_reading(tmp_path: Path):
    write_folder(tmp_path)
    write_label(tmp_path / 'train/drive/labels/img_2.png', 0, 9)
    with pytest.raises(
        DataError, match=r'img_2\.png has class id 9; allowed are 0 to 2, and 255 or 7 for void'
    ):
        open_videos(str(tmp_path), 'train').labels(0, 1)


# ---- the real sets


@pytest.mark.data
def test_the_real_camvid(shared_data: Path):
    train = open_videos(str(shared_data / 'camvid'), 'train')
    assert [(info.name, len(info)) for info in train.sequences] == [
        ('0001TP', 62), ('0006R0', 101), ('0016E5', 68), ('0016E5#2', 120), ('0016E5#3', 16),
    ]  # fmt: skip
    for info in train.sequences:
        gaps = np.diff(info.stamps_ns) / 1e9
        np.testing.assert_allclose(gaps, 1.0, atol=0.05)
    (val,) = open_videos(str(shared_data / 'camvid'), 'val').sequences
    assert len(val) == len(val.labelled) == 101
    pairs = PairSampler([PairSource(train, 4)], PairConfig(spacing_s=1.0, max_offset=1), 0)
    picks = [pair for step in range(200) for pair in pairs.picks(step)]
    assert 0.4 < np.mean([pair.offset for pair in picks]) < 0.6
    sample = pairs.read(picks[0])
    assert sample.current_HW3.shape == sample.key_HW3.shape == (360, 480, 3)


@pytest.mark.data
def test_the_real_mot(shared_data: Path):
    videos = open_videos(str(shared_data / 'mot16-11'), 'all')
    (info,) = videos.sequences
    assert (info.name, len(info)) == ('MOT16-11', 900)
    boxes = [videos.boxes(0, index) for index in range(900)]
    rows = (shared_data / 'mot16-11/gt/gt.txt').read_text().split()
    assert sum(len(found.is_ignored_N) for found in boxes) == len(rows) == 10076
    assert sum(int((~found.is_ignored_N).sum()) for found in boxes) == 9174
    np.testing.assert_allclose(boxes[0].boxes_xyxy[0], [289, 48.33, 367.67, 260], atol=1e-3)
    assert videos.frame(0, 899).image_HW3.shape == (360, 640, 3)
    campus = open_videos(f'mot:{shared_data / "mot15"}', 'all')
    assert (campus.sequences[0].name, len(campus.sequences[0])) == ('TUD-Campus', 71)
    assert campus.boxes(0, 0).boxes_xyxy[0].tolist() == [399, 182, 520, 411]


def test_cv2_reads_what_the_helpers_write(tmp_path: Path):
    write_label(tmp_path / 'l.png', 3, 250)
    assert cv2.imread(str(tmp_path / 'l.png'), cv2.IMREAD_UNCHANGED).tolist()[0] == [3] * 16 + [250] * 16
