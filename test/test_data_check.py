# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""`dff data check` on sets that were spoilt on purpose, and `dff data render-street`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import write_cityscapes, write_folder, write_frame, write_label, write_mot

from dff_ros import cli
from dff_ros.data.check import check
from dff_ros.data.findings import KINDS
from dff_ros.data.layouts import LAYOUTS, open_videos
from dff_ros.data.street import Street
from dff_ros.errors import DataError


def found(root: Path) -> dict[str, list[str]]:
    """{kind: findings} of a data set."""
    return {kind: [str(finding) for finding in group] for kind, group in check(root, workers=2).groups()}


def test_a_good_set_is_counted(tmp_path: Path):
    write_folder(tmp_path)
    shown: list[tuple[int, int]] = []
    report = check(tmp_path, show=lambda done, total: shown.append((done, total)))
    assert report.is_ok and report.findings == []
    facts = report.to_dict()['splits']
    assert facts == {
        'train': {
            'sequences': 2, 'frames': 17, 'labelled': 3, 'boxes': 0, 'ignored_boxes': 0,
            'sizes': {'32x24': 17}, 'class_share': {'road': 25.0, 'car': 50.0, 'sky': 25.0},
            'unlabelled_share': 33.333,
        },
        'val': {
            'sequences': 1, 'frames': 1, 'labelled': 1, 'boxes': 0, 'ignored_boxes': 0,
            'sizes': {'32x24': 1}, 'class_share': {'road': 100.0, 'car': 0.0, 'sky': 0.0},
            'unlabelled_share': 0.0,
        },
    }  # fmt: skip
    assert shown[-1] == (18, 18)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise_jpeg(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    cv2.imwrite(str(path), pixels)


def truncated_jpeg(root: Path) -> None:
    (root / 'train/walk/frames/002.png').unlink()
    noise_jpeg(root / 'train/walk/frames/002.jpg')
    truncate(root / 'train/walk/frames/002.jpg')


# what is done to the set, and the findings that it must give
SPOILT: dict[str, tuple[Callable[[Path], object], dict[str, list[str]]]] = {
    'a frame is missing': (
        lambda root: (root / 'train/walk/frames/002.png').unlink(),
        {'numbering': ['train/walk/frames/003.png: 1 is followed by 3, the step is 1']},
    ),
    'a labelled frame at the end is missing': (
        lambda root: (root / 'train/walk/frames/004.png').unlink(),
        {'label_without_frame': ['train/walk/labels/004.png']},
    ),
    'a frame is there twice': (
        lambda root: noise_jpeg(root / 'train/walk/frames/002.jpg'),
        {'numbering': ['train/walk/frames/002.png: the same name as 002.jpg']},
    ),
    'a number is there twice': (
        lambda root: write_frame(root / 'train/walk/frames/02.png', 0),
        {'numbering': ['train/walk/frames/02.png: 2 is followed by 2, the step is 1']},
    ),
    'a frame has another size': (
        lambda root: write_frame(root / 'train/walk/frames/002.png', 0, (20, 32)),
        {'frame_size': ['train/walk/frames/002.png: 32x20 instead of 32x24']},
    ),
    'a label has another size': (
        lambda root: write_label(root / 'train/walk/labels/004.png', 0, size=(48, 64)),
        {'label_size': ['train/walk/labels/004.png: 64x48 instead of 32x24']},
    ),
    'a label is in colour': (
        lambda root: write_frame(root / 'train/walk/labels/004.png', 3),
        {
            'label_format': [
                'train/walk/labels/004.png: must have one channel of 8 bits, it is uint8 (24, 32, 3)'
            ]
        },
    ),
    'a label is a JPEG': (
        lambda root: write_frame(root / 'train/walk/labels/003.jpg', 1),
        {'label_format': ['train/walk/labels/003.jpg: labels/ takes .png']},
    ),
    'label values are outside': (
        lambda root: write_label(root / 'train/walk/labels/004.png', 0, 3, 100),
        {'label_value': ['train/walk/labels/004.png: has 3, 100; allowed are 0 to 2, and 255 or 7 for void']},
    ),
    'an image is no image': (
        lambda root: (root / 'train/walk/frames/002.png').write_text('hello'),
        {'unreadable': ['train/walk/frames/002.png: cannot identify image file']},
    ),
    'a split is empty': (
        lambda root: (root / 'test').mkdir(),
        {'empty_split': ['test']},
    ),
    'a sequence is empty': (
        lambda root: (root / 'train/run').mkdir(),
        {'empty_sequence': ['train/run: no image in frames/']},
    ),
    'a file has another kind': (
        lambda root: (root / 'train/walk/frames/notes.txt').write_text('x'),
        {'stray_file': ['train/walk/frames/notes.txt: frames/ takes .jpg, .jpeg, .png']},
    ),
    'a split has no labels': (
        lambda root: (root / 'val/still/labels/0.png').unlink(),
        {'no_labels': ['val']},
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', SPOILT)
def test_each_fault_is_found_and_nothing_else(tmp_path: Path, case: str):
    spoil, expected = SPOILT[case]
    write_folder(tmp_path)
    spoil(tmp_path)
    assert found(tmp_path) == expected
    code = cli.main(['data', 'check', str(tmp_path), '--json'])
    assert code == int(any(KINDS[kind].is_error for kind in expected))


def test_truncated_files_are_found(tmp_path: Path):
    write_folder(tmp_path)
    truncated_jpeg(tmp_path)
    truncate(tmp_path / 'train/walk/labels/004.png')
    (problems,) = found(tmp_path).values()
    assert [problem.split(':')[0] for problem in problems] == [
        'train/walk/frames/002.jpg',
        'train/walk/labels/004.png',
    ]
    assert 'truncated' in problems[0]


def test_a_wrong_description_and_wrong_stamps_are_found(tmp_path: Path):
    write_folder(tmp_path)
    (tmp_path / 'train/walk/stamps.csv').write_text('name,stamp_s\n000,1\n')
    assert list(found(tmp_path)) == ['bad_stamps']
    (tmp_path / 'classes.yaml').write_text('classes: 3')
    kinds = found(tmp_path)
    assert list(kinds) == ['bad_file'] and len(kinds['bad_file']) == 1  # once, not for every split
    assert 'there is no list of classes' in kinds['bad_file'][0]


def test_camvid_s_missing_and_unused_files(tmp_path: Path):
    for name in ('A_1', 'A_2', 'A_9'):
        write_frame(tmp_path / f'images/train/{name}.jpg', 5)
        write_label(tmp_path / f'labels/train/{name}.png', 0)
    (tmp_path / 'splits').mkdir()
    (tmp_path / 'splits/train.txt').write_text('A_1\nA_2\nA_3\n')
    (tmp_path / 'splits/val.txt').write_text('')
    kinds = found(tmp_path)
    assert kinds['missing_file'] == ['images/train/A_3.jpg', 'labels/train/A_3.png']
    assert kinds['stray_file'][0] == 'images/train/A_9.jpg: not in splits/train.txt'
    assert kinds['bad_file'][0].startswith('splits/val.txt: camvid list')
    assert set(kinds) == {'missing_file', 'stray_file', 'bad_file'}


def test_cityscapes_without_the_frames_before(tmp_path: Path):
    write_cityscapes(tmp_path)
    assert found(tmp_path) == {}
    folder = tmp_path / 'leftImg8bit_sequence/train/aachen'
    (folder / 'aachen_000003_000004_leftImg8bit.png').unlink()
    write_label(tmp_path / 'gtFine/train/aachen/aachen_000009_000019_gtFine_labelIds.png', 7)
    assert found(tmp_path) == {
        'label_without_frame': ['gtFine/train/aachen/aachen_000009_000019_gtFine_labelIds.png'],
        'missing_frames_before': ['aachen_000003_000019_leftImg8bit.png: 14 of 19 are there'],
    }


def test_mot_files_and_boxes(tmp_path: Path):
    rows = '1,7,2,3,10,12,1,1,0.7\n9,7,2,3,10,12,1,1,1\n2,7,2,3,0,12,1,1,1\n2,a,2,3,1,12,1,1,1\n2,3,1\n'
    write_mot(tmp_path, rows)
    (tmp_path / 'img1/000002.png').unlink()
    write_frame(tmp_path / 'img1/000007.png', 1)
    write_frame(tmp_path / 'img1/000003.png', 1, (20, 20))
    report = check(tmp_path)
    kinds = {kind: [str(finding) for finding in group] for kind, group in report.groups()}
    assert kinds == {
        'missing_file': ['img1/000002.png'],
        'frame_size': ['img1/000003.png: 20x20 instead of 32x24'],
        'numbering': ['img1/000007.png: seqinfo.ini has frames 1 to 4'],
        'bad_box': [
            'gt/gt.txt: row 2 is of frame 9, the frames are 1 to 4',
            'gt/gt.txt: row 3 has width 0 and height 12',
            'gt/gt.txt: row 4 is not of numbers',
            'gt/gt.txt: row 5 needs at least 7 numbers',
        ],
    }
    assert report.splits['all'].num_boxes == 1
    (tmp_path / 'seqinfo.ini').write_text('[Sequence]\nframeRate=30\n')
    assert 'seqLength' in found(tmp_path)['bad_file'][0]


def test_the_report_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_folder(tmp_path)
    assert cli.main(['data', 'check', str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert 'nothing must be fixed' in text and 'layout folder' in text
    assert ' '.join(text.split()).count('car │ 50.00 │ 0.00') == 1
    for number in range(5):
        write_label(tmp_path / f'train/walk/labels/{number:03d}.png', 9)
    assert cli.main(['data', 'check', str(tmp_path), '--layout', 'folder']) == 1
    lines = capsys.readouterr().out.splitlines()
    start = lines.index('must be fixed: label values outside the classes (5)')
    assert lines[start + 1].strip().startswith('train/walk/labels/000.png: has 9; allowed are 0 to 2')
    assert lines[start + 4].strip() == '... and 2 more'
    assert lines[start + 5].strip().startswith('fix: map them to class ids')


def test_the_report_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_folder(tmp_path)
    (tmp_path / 'test').mkdir()
    assert cli.main(['data', 'check', str(tmp_path), '--json']) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report['ok'], report['layout'], report['root']) == (False, 'folder', str(tmp_path))
    (finding,) = report['findings']
    assert (finding['kind'], finding['count'], finding['examples']) == ('empty_split', 1, ['test'])
    assert finding['must_fix'] is True and 'remove the folder' in finding['fix']


@pytest.mark.parametrize('argv', [['{root}/none'], ['{root}/none', '--layout', 'mot'], ['{root}']])
def test_a_folder_that_is_no_data_set_is_an_error(
    tmp_path: Path, argv: list[str], capsys: pytest.CaptureFixture[str]
):
    assert cli.main(['data', 'check', *(text.format(root=tmp_path) for text in argv)]) == 2
    assert capsys.readouterr().err.startswith('error: ')


RENDER = [
    '--sequences',
    '2',
    '--frames',
    '5',
    '--every',
    '3',
    '--width',
    '64',
    '--height',
    '48',
    '--fps',
    '15',
]


def test_the_rendered_street_is_a_good_set_with_exact_labels(tmp_path: Path):
    root = tmp_path / 'street'
    root.mkdir()
    assert cli.main(['data', 'render-street', str(root), *RENDER, '--seed', '3']) == 0
    report = check(root)
    assert report.is_ok and report.findings == []
    counts = {split: (f.num_sequences, f.num_frames, f.num_labelled) for split, f in report.splits.items()}
    assert counts == {'train': (2, 10, 4), 'val': (1, 5, 2)}
    videos = open_videos(str(root), 'train')
    assert [info.name for info in videos.sequences] == ['street_0003', 'street_0004']
    assert videos.sequences[0].labelled == (0, 3)
    np.testing.assert_allclose(np.diff(videos.sequences[0].stamps_ns), 1e9 / 15, atol=1)
    street = Street(4, (48, 64), 15.0).frame(3)
    np.testing.assert_array_equal(videos.labels(1, 3), street.labels_HW)
    difference = np.abs(videos.frame(1, 3).image_HW3.astype(int) - street.image_HW3)
    assert difference.mean() < 5  # JPEG
    assert list(tmp_path.iterdir()) == [root]


def test_rendering_never_overwrites(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / 'mine.txt').write_text('kept')
    assert cli.main(['data', 'render-street', str(tmp_path), *RENDER]) == 2
    assert 'is not empty: give a new folder, nothing was written' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_a_disk_that_refuses_leaves_nothing_behind(tmp_path: Path):
    from dff_ros.data.street_config import RenderConfig
    from dff_ros.data.write_street import write_street

    (tmp_path / 'file').write_text('x')
    with pytest.raises(DataError, match='cannot write the street to'):
        write_street(tmp_path / 'file' / 'street', RenderConfig(sequences=1))
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize(
    'flags', [['--sequences', '0'], ['--every', '0'], ['--val_sequences', '-1'], ['--frames', 'x']]
)
def test_counts_must_make_sense(tmp_path: Path, flags: list[str]):
    with pytest.raises(SystemExit) as caught:
        cli.main(['data', 'render-street', str(tmp_path / 's'), *flags])
    assert caught.value.code == 2


@pytest.mark.data
@pytest.mark.parametrize(('name', 'frames', 'labelled', 'boxes'), [
    ('camvid', 701, 701, 2853), ('mot16-11', 900, 0, 9174), ('mot15', 71, 0, 359),
])  # fmt: skip
def test_the_real_sets_are_in_order(shared_data: Path, name: str, frames: int, labelled: int, boxes: int):
    report = check(shared_data / name)
    assert report.is_ok
    facts = list(report.splits.values())
    assert sum(f.num_frames for f in facts) == frames
    assert sum(f.num_labelled for f in facts) == labelled
    assert sum(f.num_boxes for f in facts) == boxes


def test_the_flag_offers_every_layout(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        cli.main(['data', 'check', '--help'])
    assert '{' + ','.join(LAYOUTS) + '}' in capsys.readouterr().out
