# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The pairs of joint training: sources, ranges, what is held out, labels and flow that fit the frames."""

from __future__ import annotations

from dataclasses import astuple, fields
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_layers import smooth_texture
from video_files import write_folder, write_frame, write_mot

from dff_ros.config import replace
from dff_ros.data.augment_config import AugmentConfig
from dff_ros.errors import ConfigError, DataError
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


def data_of(batch: PairBatch, which: slice = slice(None)) -> dict[str, object]:
    """All there is in those pairs of a batch, to be compared."""
    found: dict[str, object] = {}
    for field in fields(PairBatch):
        value = getattr(batch, field.name)[which]
        if field.name == 'boxes_B':
            value = [
                None if boxes is None else [array.tobytes() for array in astuple(boxes)] for boxes in value
            ]
        found[field.name] = value if isinstance(value, list) else value.tobytes()
    return found


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
    assert data_of(repeated) == data_of(whole)
    assert data_of(odd) == data_of(whole, slice(1, None, 2))
    assert data_of(ahead) == data_of(whole, slice(0, None, 2))
    assert sum(boxes is not None for boxes in whole.boxes_B) == 1  # of the street
    assert not np.array_equal(first.train.batch(6).current_BHW3, whole.current_BHW3)
    # Labelled and unlabelled frames, made pairs, and a street whose classes are not those of the set.
    assert (whole.offsets_B[4:7] == -1).all() and (whole.offsets_B[[0, 1, 2, 3, 7]] >= 0).all()
    has_labels = (whole.labels_BHW != 255).any(axis=(1, 2))
    np.testing.assert_array_equal(has_labels, [True] * 2 + [False] * 2 + [True] * 3 + [False])
    assert set(first.held_out) == {'labelled', 'unlabelled', 'made', 'street'}
    first.close()
    again.close()


def test_labelled_frames_are_held_out_and_labels_are_those_of_the_current_frame(
    tmp_path: Path, labelled: Path
):
    data = open_data(tmp_path, labelled=str(labelled), made_share=0, held_out=0.2, **{'pairs.same': 0.5})
    assert data.labelled is not None and len(data.labelled) == 16
    assert {Path(data.labelled[index].name).parts[-3] for index in range(10)} == {'s0'}
    trained = {data.labelled[index].image_HW3.tobytes() for index in range(16)}
    seen = set()
    for step in range(12):
        batch = data.held_out['labelled'].batch(step)
        seen |= {frame.tobytes() for frame in (*batch.current_BHW3, *batch.key_BHW3)}
        distance = np.abs(batch.current_BHW3[..., 0] - 32.0 * batch.labels_BHW - 15.5)
        assert (distance <= 16 + 8).mean() > 0.97
    assert len(seen) == 4 and trained.isdisjoint(seen)
    for step in range(12):
        batch = data.train.batch(step)
        assert {frame.tobytes() for frame in (*batch.current_BHW3, *batch.key_BHW3)} <= trained
    data.close()


def test_frames_of_any_size_come_at_a_scale_of_their_own_and_without_padding(tmp_path: Path):
    """An edge in a frame of twice the crop's sides lies where it lies in the crop."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[:, 64:] = 200
    for number in range(20):
        write_frame(tmp_path / 'v' / f'{number}.png', 0)
        cv2.imwrite(str(tmp_path / 'v' / f'{number}.png'), image)
    expected = np.repeat([[0, 200]], 32, axis=1).repeat(48, axis=0)
    for augment in (GREY, replace(GREY, {'scale_min': 0.3, 'scale_max': 0.5})):
        data = open_data(tmp_path, augment, unlabelled=str(tmp_path / 'v'))
        np.testing.assert_array_equal(data.train.batch(0).current_BHW3[1, ..., 0], expected)
        data.close()


@pytest.mark.parametrize(
    ('batch', 'shares', 'expected'),
    [
        (8, (2, 2, 3, 1), (2, 2, 3, 1)),
        (16, (2, 2, 3, 1), (4, 4, 6, 2)),
        (6, (2, 2, 3, 1), (2, 1, 2, 1)),
        (5, (1, 0, 1, 0), (3, 0, 2, 0)),
    ],
)
def test_shares_of_a_batch(batch: int, shares: tuple[int, ...], expected: tuple[int, ...]):
    names = ('labelled', 'unlabelled', 'made', 'street')
    settings = {f'{name}_share': share for name, share in zip(names, shares, strict=True)}
    counts = JointDataConfig(labelled='a', unlabelled='b', street=5, **settings).per_batch(batch)
    assert tuple(counts.get(name, 0) for name in names) == expected


def test_kinds_without_data_leave_their_share_to_the_others():
    assert JointDataConfig(unlabelled='b').per_batch(8) == {'unlabelled': 8}
    assert JointDataConfig(labelled='a').per_batch(10) == {'labelled': 4, 'made': 6}
    assert JointDataConfig(made_images='a', street=3).per_batch(8) == {'made': 6, 'street': 2}


@pytest.mark.parametrize('settings', [{}, {'unlabelled': 'b', 'unlabelled_share': 0}])
def test_nothing_to_train_on_is_said(settings: dict[str, object]):
    with pytest.raises(ConfigError, match=r'nothing to train on: give --data\.labelled PATH'):
        JointDataConfig(**settings).per_batch(8)  # type: ignore[arg-type]


def test_a_batch_that_is_too_small_is_said():
    with pytest.raises(ConfigError, match='batch: 2 has no room for street pairs beside the others'):
        JointDataConfig(made_images='a', street=3, made_share=5).per_batch(2)


def test_broken_input_is_named(tmp_path: Path, labelled: Path):
    write_folder(tmp_path / 'other')
    write_video(tmp_path / 'one', 1, 1)
    nowhere = str(tmp_path / 'nowhere')
    cases: list[tuple[dict[str, object], type[Exception], str]] = [
        (
            {'labelled': f'{labelled},{tmp_path / "other"}'},
            ConfigError,
            'classes road, car, sky',
        ),
        ({'labelled': nowhere}, DataError, 'nowhere does not exist'),
        ({'labelled': str(labelled), 'split': 'test'}, DataError, "no split 'test'; it has train"),
        ({'unlabelled': nowhere}, DataError, 'there is no video .*nowhere'),
        (
            {'unlabelled': str(tmp_path / 'one')},
            ConfigError,
            'frame of .*one has any frame 1 frame',
        ),
        ({'made_images': nowhere}, DataError, 'there is no video .*nowhere'),
    ]
    for settings, error, message in cases:
        with pytest.raises(error, match=message):
            open_data(tmp_path, **settings)


def test_a_deleted_frame_and_labels_of_another_size_are_named(tmp_path: Path, labelled: Path):
    frames, labels = labelled / 'train/s0/frames', labelled / 'train/s1/labels'
    settings = {'labelled': str(labelled), 'made_share': 0, 'held_out': 0.0}
    data = open_data(tmp_path, **settings)
    (frames / '3.png').unlink()
    with pytest.raises(DataError, match=r's0/frames/3\.png cannot be decoded'):
        list(data.train.ahead(0, 10))
    data.close()
    write_frame(frames / '3.png', 0, (96, 128))
    cv2.imwrite(str(labels / '2.png'), np.zeros((48, 64), np.uint8))
    data = open_data(tmp_path, **settings)
    with pytest.raises(DataError, match=r'labels of .*s1/frames/2\.png are 64x48 pixels, the frame 128x96'):
        list(data.train.ahead(0, 10))
    data.close()


def test_pairs_can_be_made_of_images_without_labels(tmp_path: Path):
    for number in range(10):
        write_frame(tmp_path / 'images' / f'{number}.png', 0)
        cv2.imwrite(str(tmp_path / 'images' / f'{number}.png'), smooth_texture(number, (96, 128)))
    data = open_data(tmp_path, made_images=str(tmp_path / 'images'))
    batch = data.train.batch(0)
    assert (batch.labels_BHW == 255).all() and (batch.offsets_B == -1).all()
    assert batch.is_visible_BHW.mean() > 0.3 and np.abs(batch.flow_B2HW).mean() > 1
    assert set(data.held_out) == {'made'}
    assert not np.array_equal(data.held_out['made'].batch(0).flow_B2HW, batch.flow_B2HW)
    data.close()


# ---- boxes


@pytest.fixture
def mot(tmp_path: Path) -> Path:
    """Twelve frames; in frame n one pedestrian whose left edge is at n - 1, and a region to be ignored."""
    rows = [f'{number},1,{number},6,10,12,1,1,1\n{number},2,20,2,8,8,0,7,1' for number in range(1, 13)]
    write_mot(tmp_path / 'mot', '\n'.join(rows), num_frames=12)
    return tmp_path / 'mot'


def test_boxes_teach_beside_labels_and_both_are_held_out(tmp_path: Path, labelled: Path, mot: Path):
    settings = {'labelled': f'{labelled},mot:{mot}#3-11', 'made_share': 0, 'held_out': 1 / 9}
    data = open_data(tmp_path, batch=14, **settings)
    assert data.class_names == tuple('abcdefgh') and data.box_class_names == ('pedestrian',)
    assert data.labelled is not None and len(data.labelled) == 18
    seen = set()
    for step in range(8):
        batch = data.train.batch(step)
        assert batch.known_BK.shape == (14, 1)
        for boxes, is_known, labels, current, key in zip(
            batch.boxes_B,
            batch.known_BK[:, 0],
            batch.labels_BHW,
            batch.current_BHW3,
            batch.key_BHW3,
            strict=True,
        ):
            assert (boxes is not None) == is_known == bool((labels == 255).all())
            if boxes is None:
                continue
            number = int(current[24, 32, 0])
            seen |= {number, int(key[24, 32, 0])}
            # 32x24 frames in crops of 64x48
            np.testing.assert_array_equal(
                boxes.boxes_xyxy, [[2 * number, 12, 2 * number + 20, 36], [40, 4, 56, 20]]
            )
            np.testing.assert_array_equal(boxes.is_ignored_N, [False, True])
    assert seen == set(range(3, 11))
    held_out = [data.held_out['labelled'].batch(step) for step in range(3)]
    with_boxes = [
        int(batch.current_BHW3[number, 24, 32, 0])
        for batch in held_out
        for number in np.flatnonzero(batch.known_BK)
    ]
    assert set(with_boxes) == {11}
    assert any((batch.labels_BHW != 255).any() for batch in held_out)
    data.close()


def test_sets_with_boxes_can_have_a_share_of_their_own(tmp_path: Path, labelled: Path, mot: Path):
    settings = {'labelled': str(labelled), 'boxed': f'mot:{mot}', 'made_share': 0, 'boxed_share': 1}
    data = open_data(tmp_path, batch=9, held_out=0.2, **settings)
    assert set(data.held_out) == {'labelled', 'boxed'}
    assert data.class_names == tuple('abcdefgh') and data.box_class_names == ('pedestrian',)
    for step in range(3):
        batch = data.train.batch(step)
        np.testing.assert_array_equal(batch.known_BK[:, 0], [False] * 6 + [True] * 3)
        np.testing.assert_array_equal((batch.labels_BHW != 255).any(axis=(1, 2)), [True] * 6 + [False] * 3)
        assert data.held_out['boxed'].batch(step).known_BK.all()
        assert not data.held_out['labelled'].batch(step).known_BK.any()
    assert greys([data.held_out['boxed'].batch(0)]) == {11, 12}
    data.close()
    write_folder(tmp_path / 'other')
    with pytest.raises(
        ConfigError, match='data.boxed: .*other has the classes road, car, sky, those before a'
    ):
        open_data(tmp_path, labelled=str(labelled), boxed=str(tmp_path / 'other'))


def test_a_set_without_what_is_wanted_is_refused(tmp_path: Path, labelled: Path, mot: Path):
    with pytest.raises(ConfigError, match='data.labelled: mot:.* has no labelled frames in all'):
        open_data(tmp_path, labelled=f'mot:{mot}', **{'boxes.classes': ''})
    with pytest.raises(ConfigError, match='boxes.classes: .* the data has boxes of pedestrian: give'):
        open_data(tmp_path, labelled=f'mot:{mot}', **{'boxes.classes': 'person'})
    with pytest.raises(ConfigError, match='mot:.* has no frames with labels, or boxes of the classes wanted'):
        open_data(tmp_path, labelled=f'{labelled},mot:{mot}', street=2, **{'boxes.classes': 'car'})
    with pytest.raises(ConfigError, match=r'data\.labelled: got .*@3.*; a data set tells its own frame rate'):
        open_data(tmp_path, labelled=f'mot:{mot}@3')
    with pytest.raises(DataError, match='mot:.*mot has no frame 13: its frames are 1 to 12'):
        open_data(tmp_path, labelled=f'mot:{mot}#13-20')


def test_only_boxes_can_be_trained_on(tmp_path: Path, mot: Path):
    data = open_data(tmp_path, labelled=f'mot:{mot}', street=2, **{'boxes.classes': 'car,pedestrian'})
    assert data.labelled is None and data.box_class_names == ('car', 'pedestrian')
    assert data.class_names != ()  # the street's
    batch = data.train.batch(0)  # labelled 2 or 1, made 2 or 1, street 1
    known = {tuple(map(bool, row)) for row in batch.known_BK}
    assert known == {(False, True), (False, False), (True, True)}
    data.close()


def test_without_detection_no_boxes_are_rendered(tmp_path: Path):
    data = open_data(tmp_path, street=2, **{'boxes.classes': ''})
    assert data.train.batch(0).boxes_B == (None,) * 4 and data.box_class_names == ()
    data.close()
    assert not list((tmp_path / 'street').rglob('boxes*'))
