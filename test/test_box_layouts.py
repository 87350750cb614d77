# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""ImageNet VID and the instances of Cityscapes on small made files in the true layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import SIZE, write_cityscapes, write_frame

from dff_ros import cli
from dff_ros.data.check import check
from dff_ros.data.layouts import detect_layout, layout_named, open_videos
from dff_ros.data.layouts.cityscapes import BOX_CLASSES
from dff_ros.data.vid_file import CLASSES, VidFile
from dff_ros.errors import DataError

XML = '<annotation><size><width>32</width><height>24</height></size>{}</annotation>'
OBJECT = (
    '<object><trackid>{track}</trackid><name>{wnid}</name><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>'
    '<ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox><occluded>{occluded}</occluded><generated>0</generated></object>'
)
CAR = {'track': 3, 'wnid': 'n02958343', 'x1': 4, 'y1': 5, 'x2': 13, 'y2': 11, 'occluded': 0}


def xml_of(*objects: dict[str, object]) -> str:
    return XML.format(''.join(OBJECT.format(**item) for item in objects))


def write_vid(root: Path) -> None:
    """train: a video of 4 frames; val: one of 3, an object more in each; test: one of 2 without boxes."""
    for number in range(4):
        video = 'train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000007'
        write_frame(root / f'Data/VID/{video}/{number:06d}.JPEG', 10 * number)
        write_xml(root / f'Annotations/VID/{video}/{number:06d}.xml', xml_of(CAR | {'x1': number}))
    for number in range(3):
        video = 'val/ILSVRC2015_val_00000001'
        write_frame(root / f'Data/VID/{video}/{number:06d}.JPEG', number)
        zebra = CAR | {'wnid': 'n02391049', 'occluded': 1, 'x2': 99, 'y1': -2}
        write_xml(root / f'Annotations/VID/{video}/{number:06d}.xml', xml_of(*(CAR, zebra)[:number]))
    for number in range(2):
        write_frame(root / f'Data/VID/test/ILSVRC2015_test_00000000/{number:06d}.JPEG', number)


def write_xml(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def kinds_of(root: Path) -> dict[str, list[str]]:
    return {kind: [str(finding) for finding in group] for kind, group in check(root, workers=2).groups()}


# ---- ImageNet VID


def test_vid_is_read_as_it_is_distributed(tmp_path: Path):
    write_vid(tmp_path)
    assert detect_layout(tmp_path) == 'vid'
    assert layout_named('vid').splits(tmp_path) == ('test', 'train', 'val')
    train = open_videos(str(tmp_path), 'train')
    (info,) = train.sequences
    assert info.name == 'train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000007'
    assert (len(info), info.labelled, info.boxed) == (4, (), (0, 1, 2, 3))
    assert info.box_classes == train.box_class_names == CLASSES and len(CLASSES) == 30
    assert [CLASSES[number] for number in (0, 6, 9, 29)] == ['airplane', 'car', 'domestic cat', 'zebra']
    assert int(train.frame(0, 3).image_HW3[0, 0, 0]) == 30
    assert np.diff(info.stamps_ns).tolist() == [40_000_000] * 3
    boxes = train.boxes(0, 2)
    assert boxes is not None
    np.testing.assert_array_equal(boxes.boxes_xyxy, [[2, 5, 14, 12]])
    assert (boxes.class_ids_N.tolist(), boxes.track_ids_N.tolist()) == ([6], [3])


def test_boxes_of_vid_end_at_the_frame_and_tell_what_is_occluded(tmp_path: Path):
    write_vid(tmp_path)
    val = open_videos(f'vid:{tmp_path}', 'val')
    assert val.sequences[0].boxed == (0, 1, 2)
    nobody, both = val.boxes(0, 0), val.boxes(0, 2)
    assert nobody is not None and nobody.boxes_xyxy.shape == (0, 4)
    assert both is not None
    np.testing.assert_array_equal(both.boxes_xyxy, [[4, 5, 14, 12], [4, 0, 32, 12]])
    np.testing.assert_array_equal(both.class_ids_N, [6, 29])
    np.testing.assert_array_equal(both.visibility_N, [1.0, 0.5])
    test = open_videos(f'vid:{tmp_path}', 'test')
    assert test.sequences[0].boxed == () and test.boxes(0, 0) is None


def test_the_folder_above_is_taken_too(tmp_path: Path):
    write_vid(tmp_path / 'ILSVRC2015')
    assert detect_layout(tmp_path) == 'vid'
    assert len(open_videos(str(tmp_path), 'val').sequences) == 1
    assert check(tmp_path).is_ok


def test_a_check_of_vid_counts_and_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_vid(tmp_path)
    report = check(tmp_path)
    assert report.is_ok and [finding.kind for finding in report.findings] == ['no_labels']
    assert str(report.findings[0]) == 'test: no Annotations/VID/test'
    counts = {split: (f.num_sequences, f.num_frames, f.num_boxes) for split, f in report.splits.items()}
    assert counts == {'test': (1, 2, 0), 'train': (1, 4, 4), 'val': (1, 3, 3)}

    video = 'train/ILSVRC2015_VID_train_0001/ILSVRC2015_train_00000007'
    (tmp_path / f'Data/VID/{video}/000002.JPEG').unlink()
    (tmp_path / f'Annotations/VID/{video}/000000.xml').unlink()
    write_xml(tmp_path / f'Annotations/VID/{video}/000001.xml', xml_of(CAR | {'wnid': 'n1'}))
    (tmp_path / f'Data/VID/{video}/notes.txt').write_text('x')
    (tmp_path / 'Data/VID/val/empty').mkdir()
    assert kinds_of(tmp_path) == {
        'missing_file': [f'Annotations/VID/{video}/000000.xml'],
        'label_without_frame': [f'Annotations/VID/{video}/000002.xml'],
        'numbering': [f'Data/VID/{video}/000003.JPEG: 1 is followed by 3, the step is 1'],
        'bad_box': [f"Annotations/VID/{video}/000001.xml: cannot be used: 'n1' is none of the 30 classes"],
        'empty_sequence': ['Data/VID/val/empty'],
        'stray_file': [f'Data/VID/{video}/notes.txt: not of the form 000000.JPEG'],
        'no_labels': ['test: no Annotations/VID/test'],
    }
    assert cli.main(['data', 'check', str(tmp_path), '--layout', 'vid']) == 1
    assert 'must be fixed: boxes that cannot be used (1)' in capsys.readouterr().out
    with pytest.raises(DataError, match='dff data check'):
        open_videos(str(tmp_path), 'train')


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('<annotation>', 'no element found'),
        ('', 'no element found'),
        ('<annotation/>', '<size/width> is missing'),
        (xml_of(CAR).replace('<xmax>13</xmax>', ''), '<bndbox/xmax> is missing'),
        (xml_of(CAR | {'x1': 'four'}), "could not convert string to float: 'four'"),
        (xml_of(CAR | {'x1': 'nan'}), 'a box has an edge that is no number'),
        (xml_of(CAR | {'x1': 14}), 'has a box without area in its 32x24 pixels'),
        (xml_of(CAR | {'x1': 40, 'x2': 50}), 'has a box without area in its 32x24 pixels'),
        (xml_of(CAR | {'track': 'a'}), 'invalid literal for int'),
        (BOMB + xml_of(CAR | {'wnid': '&c;'}), 'it declares a document type, which may hide entities'),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd">' + xml_of(CAR), 'it declares a document type'),
        (' ' * 2**22 + xml_of(CAR), 'it is too large for the boxes of one frame'),
    ],
)
def test_a_damaged_or_hostile_annotation_is_named(tmp_path: Path, text: str, message: str):
    (tmp_path / 'a.xml').write_text(text)
    with pytest.raises(DataError, match=rf'a\.xml.*{message}'):
        VidFile(tmp_path / 'a.xml').read()


def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path):
    (tmp_path / 'a.xml').write_bytes((BOMB + xml_of(CAR)).encode('utf-16'))
    with pytest.raises(DataError, match='it declares a document type'):
        VidFile(tmp_path / 'a.xml').read()
    (tmp_path / 'a.xml').write_bytes(xml_of(CAR).encode('utf-16'))
    assert len(VidFile(tmp_path / 'a.xml').read().class_ids_N) == 1


# ---- Cityscapes


def write_instances(root: Path, split: str = 'train', number: int = 19) -> Path:
    """A car in two parts, one cut by the frame, a person, a group of bicycles in two places, a caravan."""
    values = np.full(SIZE, 7, np.uint16)
    values[2:8, 3:9] = values[4:6, 12:15] = 26000
    values[20:24, 28:32] = 26001
    values[10:18, 2:5] = 24003
    values[10:12, 20:24] = values[14:17, 22:26] = 33
    values[0:2, 0:2] = 29000
    path = root / f'gtFine/{split}/aachen/aachen_000003_{number:06d}_gtFine_instanceIds.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)
    return path


def test_instances_are_boxes_and_groups_are_ignored(tmp_path: Path):
    write_cityscapes(tmp_path)
    write_instances(tmp_path)
    videos = open_videos(f'cityscapes:{tmp_path}', 'train')
    (info,) = videos.sequences
    assert info.boxed == info.labelled == (19,) and info.box_classes == BOX_CLASSES
    assert BOX_CLASSES == ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')
    boxes = videos.boxes(0, 19)
    assert boxes is not None and videos.boxes(0, 18) is None
    found = {
        (BOX_CLASSES[number], tuple(map(int, edges)), track): bool(is_ignored)
        for number, edges, track, is_ignored in zip(
            boxes.class_ids_N, boxes.boxes_xyxy, boxes.track_ids_N.tolist(), boxes.is_ignored_N, strict=True
        )
    }
    assert found == {
        ('bicycle', (20, 10, 24, 12), -1): True,
        ('bicycle', (22, 14, 26, 17), -1): True,
        ('person', (2, 10, 5, 18), 24003): False,
        ('car', (3, 2, 15, 8), 26000): False,
        ('car', (28, 20, 32, 24), 26001): False,
    }
    report = check(tmp_path)
    assert report.is_ok and report.findings == []
    assert (report.splits['train'].num_boxes, report.splits['train'].num_ignored_boxes) == (3, 2)


def test_the_empty_instances_of_the_test_split_are_not_taken_for_answers(tmp_path: Path):
    for number in range(30):
        name = f'aachen_000003_{number:06d}_leftImg8bit.png'
        write_frame(tmp_path / 'leftImg8bit_sequence/test/aachen' / name, number)
    write_instances(tmp_path, 'test')
    assert open_videos(f'cityscapes:{tmp_path}', 'test').sequences[0].boxed == ()


def test_a_check_of_instances_finds(tmp_path: Path):
    write_cityscapes(tmp_path, (('aachen_000003', 0), ('bochum_000000', 0)))
    path = write_instances(tmp_path)
    stray = write_instances(tmp_path, number=70)
    assert cv2.imwrite(str(path), np.full(SIZE, 7001, np.uint16))
    assert kinds_of(tmp_path) == {
        'label_without_frame': [str(stray.relative_to(tmp_path))],
        'bad_box': [f'{path.relative_to(tmp_path)}: has instance id 7001, which Cityscapes does not know'],
        'no_boxes': [
            'gtFine/train/bochum/bochum_000000_000019_gtFine_labelIds.png: no ..._instanceIds.png beside it'
        ],
    }


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (np.zeros((*SIZE, 3), np.uint8), r'must have one channel of 16 bits, it is uint8 \(24, 32, 3\)'),
        (np.full(SIZE, 34, np.uint16), 'has instance id 34'),
        (np.full(SIZE, 34001, np.uint16), 'has instance id 34001'),
    ],
)
def test_other_maps_are_named(tmp_path: Path, values: np.ndarray, message: str):
    write_cityscapes(tmp_path)
    assert cv2.imwrite(str(write_instances(tmp_path)), values)
    with pytest.raises(DataError, match=rf'instanceIds\.png {message}'):
        open_videos(str(tmp_path), 'train').boxes(0, 19)
