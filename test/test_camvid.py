# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The CamVid reader on small made files in the true layout."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dff_ros.data.camvid import CamVid
from dff_ros.errors import DataError

NAMES = ('0016E5_07959', '0016E5_07961', 'Seq05VD_f00030', 'Seq05VD_f00060')


def write_camvid(root: Path, split: str = 'val', names: tuple[str, ...] = NAMES) -> None:
    for kind in ('images', 'labels'):
        (root / kind / split).mkdir(parents=True)
    (root / 'splits').mkdir()
    (root / 'splits' / f'{split}.txt').write_text('\n'.join(names) + '\n')
    for index, name in enumerate(names):
        image = np.full((24, 32, 3), (200, 100, 10 * index), np.uint8)  # BGR on disk
        labels = np.full((24, 32), index, np.uint8)
        labels[:4] = 11
        cv2.imwrite(str(root / 'images' / split / f'{name}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
        cv2.imwrite(str(root / 'labels' / split / f'{name}.png'), labels)


def test_samples_come_in_order_as_rgb_with_void_as_255(tmp_path: Path):
    write_camvid(tmp_path)
    samples = CamVid(tmp_path, 'val')
    assert len(samples) == 4
    assert [samples[index].name for index in range(4)] == list(NAMES)
    sample = samples[2]
    np.testing.assert_allclose(sample.image_HW3[10, 10], (20, 100, 200), atol=3)
    assert sample.image_HW3.flags.c_contiguous
    assert sample.image_HW3.dtype == sample.labels_HW.dtype == np.uint8
    np.testing.assert_array_equal(sample.labels_HW[:4], 255)
    np.testing.assert_array_equal(sample.labels_HW[4:], 2)


def test_stamps_are_the_recording_s_and_a_new_sequence_begins_a_minute_later(tmp_path: Path):
    write_camvid(tmp_path)
    samples = CamVid(str(tmp_path), 'val')
    second = 1_000_000_000
    stamps = [samples[index].stamp_ns for index in range(4)]
    np.testing.assert_allclose(np.diff(stamps), [second / 15, 60 * second, second], atol=1)
    assert stamps[0] == 0


def test_an_unknown_split_lists_the_known_ones(tmp_path: Path):
    with pytest.raises(DataError, match="no split 'dev'; it has train, val, test"):
        CamVid(tmp_path, 'dev')


def test_a_missing_folder_or_list_is_named(tmp_path: Path):
    with pytest.raises(
        DataError, match='none does not exist: give the one with images/, labels/ and splits/'
    ):
        CamVid(tmp_path / 'none', 'val')
    write_camvid(tmp_path)
    with pytest.raises(DataError, match=r'list .*splits/train\.txt cannot be read'):
        CamVid(tmp_path, 'train')
    (tmp_path / 'splits' / 'val.txt').write_text('\n')
    with pytest.raises(DataError, match=r'val\.txt is empty'):
        CamVid(tmp_path, 'val')


def test_missing_files_are_counted_and_the_first_named(tmp_path: Path):
    write_camvid(tmp_path)
    (tmp_path / 'labels' / 'val' / f'{NAMES[1]}.png').unlink()
    (tmp_path / 'images' / 'val' / f'{NAMES[3]}.jpg').unlink()
    with pytest.raises(
        DataError, match=r'2 of 8 files are missing, the first is .*labels/val/0016E5_07961\.png'
    ):
        CamVid(tmp_path, 'val')


def test_a_name_without_number_is_refused(tmp_path: Path):
    write_camvid(tmp_path, names=('frame',))
    with pytest.raises(DataError, match="name 'frame' is not of the form SEQUENCE_NUMBER"):
        CamVid(tmp_path, 'val')


@pytest.mark.parametrize(
    ('labels', 'text'),
    [
        (np.zeros((12, 32), np.uint8), r'07959\.png is 32x12 pixels, its image 32x24: they must be equal'),
        (
            np.full((24, 32), 12, np.uint8),
            r'07959\.png has class id 12; allowed are 0 to 10, and 11 for void',
        ),
        (
            np.zeros((24, 32, 3), np.uint8),
            r'07959\.png must have one channel of 8 bits, it is uint8 \(24, 32, 3\)',
        ),
        (np.zeros((24, 32), np.uint16), r'07959\.png must have one channel of 8 bits, it is uint16'),
    ],
)
def test_a_bad_label_map_is_named(tmp_path: Path, labels: np.ndarray, text: str):
    write_camvid(tmp_path)
    cv2.imwrite(str(tmp_path / 'labels' / 'val' / f'{NAMES[0]}.png'), labels)
    with pytest.raises(DataError, match=text):
        CamVid(tmp_path, 'val')[0]


def test_a_damaged_image_is_named(tmp_path: Path):
    write_camvid(tmp_path)
    path = tmp_path / 'images' / 'val' / f'{NAMES[0]}.jpg'
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match=r'0016E5_07959\.jpg cannot be decoded'):
        CamVid(tmp_path, 'val')[0]


@pytest.mark.data
@pytest.mark.parametrize(
    ('split', 'count', 'period_s'), [('train', 367, 1), ('val', 101, 1 / 15), ('test', 233, 1)]
)
def test_the_real_splits(shared_data: Path, split: str, count: int, period_s: float):
    samples = CamVid(shared_data / 'camvid', split)
    assert len(samples) == count
    assert (samples[1].stamp_ns - samples[0].stamp_ns) / 1e9 == pytest.approx(period_s, abs=1e-6)
    sample = samples[count - 1]
    assert sample.image_HW3.shape == (360, 480, 3)
    assert set(np.unique(sample.labels_HW)) <= {*range(11), 255}
