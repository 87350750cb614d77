"""The pairs of joint training: sources, ranges, what is held out, labels and flow that fit the frames."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_layers import smooth_texture
from video_files import write_frame

from dff_ros.config import replace
from dff_ros.data.augment_config import AugmentConfig
from dff_ros.training.joint_batches import JointData, open_joint_data
from dff_ros.training.joint_data_config import JointDataConfig
from dff_ros.training.pair_batch import PairBatch

CROP = (48, 64)
GREY = AugmentConfig(
    brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, gamma=0.0, blur=0.0, noise=0.0,
    scale_min=1.0, scale_max=1.0, flip=0.0,
)  # fmt: skip


def open_data(tmp_path: Path, augment: AugmentConfig = GREY, batch: int = 4, **data: object) -> JointData:
    config = replace(JointDataConfig(video_cache=str(tmp_path / 'videos')), data)
    return open_joint_data(config, augment, CROP, 3, batch, 2, tmp_path / 'street')


def write_video(folder: Path, first: int, count: int) -> Path:
    for number in range(count):
        write_frame(folder / f'{number + 1}.png', first + number, CROP)
    return folder


def greys(batches: list[PairBatch], which: str = 'current_BHW3') -> set[int]:
    return {int(value) for batch in batches for value in getattr(batch, which)[:, 24, 32, 0]}


def test_every_frame_of_unlabelled_video_but_the_last_tenth_is_trained_on(tmp_path: Path):
    write_video(tmp_path / 'v/one', 10, 20)
    write_video(tmp_path / 'v/two', 100, 10)
    data = open_data(tmp_path, unlabelled=str(tmp_path / 'v'))
    run = [data.train.batch(step) for step in range(40)]
    trained = {*range(10, 28), *range(100, 109)}
    assert greys(run) == trained
    assert greys(run, 'key_BHW3') <= trained
    held_out = [data.held_out['unlabelled'].batch(step) for step in range(40)]
    assert greys(held_out) | greys(held_out, 'key_BHW3') == {28, 29, 109}
    for batch in run:
        distance = batch.current_BHW3[:, 24, 32, 0].astype(int) - batch.key_BHW3[:, 24, 32, 0]
        np.testing.assert_array_equal(distance, batch.offsets_B)
        assert (batch.labels_BHW == 255).all()
        np.testing.assert_array_equal(batch.is_visible_BHW[:, 0, 0], batch.offsets_B == 0)
    assert data.class_names == () and data.labelled is None
    data.close()


def test_a_range_of_frames_and_a_rate_can_be_chosen(tmp_path: Path):
    write_video(tmp_path / 'v', 10, 20)
    path = tmp_path / 'v'
    data = open_data(tmp_path, unlabelled=f'{path}#3-6@2,{path}#15-16@1', held_out=0.0, **{'pairs.same': 0.1})
    run = [data.train.batch(step) for step in range(40)]
    assert greys(run) == {12, 13, 14, 15, 24, 25}
    assert max(int(batch.offsets_B.max()) for batch in run) == 3  # 1.5 s at 2 Hz
    data.close()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder set with two sequences of textured frames whose label is the red channel's tens digit."""
    root = tmp_path / 'set'
    for sequence in range(2):
        for number in range(10):
            texture = cv2.resize(smooth_texture(10 * sequence + number, (24, 36)), (128, 96))
            folder = root / 'train' / f's{sequence}'
            write_frame(folder / 'frames' / f'{number}.png', 0)
            cv2.imwrite(str(folder / 'frames' / f'{number}.png'), texture[..., ::-1])
            (folder / 'labels').mkdir(exist_ok=True)
            cv2.imwrite(str(folder / 'labels' / f'{number}.png'), texture[..., 0] // 32)
    (root / 'classes.yaml').write_text('classes: [a, b, c, d, e, f, g, h]\nfps: 10\n')
    return root


def test_made_pairs_are_labelled_with_exact_flow(tmp_path: Path, labelled: Path):
    data = open_data(tmp_path, labelled=str(labelled), labelled_share=0, **{'motion.shift': 8.0})
    assert data.class_names == tuple('abcdefgh')
    known, agrees, errors = [], [], []
    for batch in data.train.ahead(0, 5):
        assert (batch.offsets_B == -1).all()
        for number in range(4):
            is_known = batch.labels_BHW[number] != 255
            of_image = batch.current_BHW3[number, ..., 0].astype(int)
            distance = np.abs(of_image - 32 * batch.labels_BHW[number].astype(int) - 15.5)
            known.append(is_known.mean())
            agrees.append((distance[is_known] <= 16 + 8).mean())  # nearest label, bilinear colour
            sample = batch.current_BHW3[number], batch.key_BHW3[number], batch.flow_B2HW[number]
            seen = batch.is_visible_BHW[number]
            errors.append(np.abs(warp_key(*sample[1:]) - sample[0])[seen].mean())
    assert np.mean(known) > 0.9
    assert np.mean(agrees) > 0.97
    assert np.mean(errors) < 2.5
    data.close()


def warp_key(key_HW3: np.ndarray, flow_2HW: np.ndarray) -> np.ndarray:
    """The key image at p + flow(p), bilinear."""
    y, x = np.mgrid[0 : CROP[0], 0 : CROP[1]].astype(np.float32)
    return cv2.remap(key_HW3, x + flow_2HW[0], y + flow_2HW[1], cv2.INTER_LINEAR).astype(float)


def test_batches_depend_on_seed_and_step_only_and_slots_choose_of_them(tmp_path: Path, labelled: Path):
    video = write_video(tmp_path / 'v', 10, 20)
    settings = {'labelled': str(labelled), 'unlabelled': str(video), 'street': 3}
    first = open_data(tmp_path, AugmentConfig(), batch=8, **settings)
    again = open_data(tmp_path, AugmentConfig(), batch=8, memory_mib=0, **settings)
    whole = first.train.batch(5)
    repeated, odd = again.train.batch(5), again.train.batch(5, range(1, 8, 2))
    (ahead,) = again.train.ahead(5, 6, range(0, 8, 2))
    for field in fields(PairBatch):
        array = getattr(whole, field.name)
        np.testing.assert_array_equal(getattr(repeated, field.name), array)
        np.testing.assert_array_equal(getattr(odd, field.name), array[1::2])
        np.testing.assert_array_equal(getattr(ahead, field.name), array[::2])
    assert not np.array_equal(first.train.batch(6).current_BHW3, whole.current_BHW3)
    # Labelled and unlabelled frames, made pairs, and a street whose classes are not those of the set.
    assert (whole.offsets_B[4:7] == -1).all() and (whole.offsets_B[[0, 1, 2, 3, 7]] >= 0).all()
    has_labels = (whole.labels_BHW != 255).any(axis=(1, 2))
    np.testing.assert_array_equal(has_labels, [True] * 2 + [False] * 2 + [True] * 3 + [False])
    assert set(first.held_out) == {'labelled', 'unlabelled', 'made', 'street'}
    first.close()
    again.close()
