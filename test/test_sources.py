# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Frame sources: order, stamps, labels, and errors that name the file."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.data.images import read_image
from dff_ros.errors import ConfigError, ConversionError, DataError
from dff_ros.sources import SourceRequest, open_source
from dff_ros.video import VideoWriter
from dff_ros.video_set_source import FrameRange

MS = 10**6


def flat(value: int, size: tuple[int, int] = (32, 48)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


@pytest.fixture
def camvid(tmp_path):
    """Three frames, two frame numbers (1/15 s) apart; the label of frame i is class i, its right void."""
    names = [f'0016E5_{number:05d}' for number in (7959, 7961, 7963)]
    for value, name in enumerate(names):
        labels = np.full((32, 48), value, np.uint8)
        labels[:, 24:] = 11
        save(tmp_path / 'images' / 'val' / f'{name}.jpg', flat(40 * value))
        save(tmp_path / 'labels' / 'val' / f'{name}.png', labels)
    (tmp_path / 'splits').mkdir()
    (tmp_path / 'splits' / 'val.txt').write_text('\n'.join(names))
    return tmp_path


def test_camvid_gives_images_labels_and_recording_stamps(camvid):
    source = open_source(str(camvid))
    frames = list(source)
    assert (source.num_frames, source.size, source.class_names) == (3, (32, 48), CAMVID_CLASSES)
    assert source.fps == pytest.approx(15.0)
    assert [int(frame.image_HW3[0, 0, 0]) for frame in frames] == [0, 40, 80]
    assert [frame.name for frame in frames] == ['0016E5_07959', '0016E5_07961', '0016E5_07963']
    steps_ms = np.diff([frame.stamp_ns for frame in frames]) / MS
    np.testing.assert_allclose(steps_ms, 1000 / 15, atol=1e-3)
    for index, frame in enumerate(frames):
        assert set(np.unique(frame.labels_HW)) == {index, 255}
        np.testing.assert_array_equal(source.labels(index), frame.labels_HW)


def test_camvid_without_the_split_names_what_is_missing(camvid):
    with pytest.raises(DataError, match="has no split 'train'; it has val"):
        open_source(str(camvid), split='train')


@pytest.fixture
def own_video(tmp_path):
    """Layout folder, split val: three sequences of 3, 2 and 1 frames; labels on frames 1 and 8."""
    root = tmp_path / 'own'
    for sequence, numbers, labelled in (('a', (0, 1, 2), (1,)), ('b', (7, 8), (8,)), ('c', (0,), ())):
        for number in numbers:
            save(root / 'val' / sequence / 'frames' / f'{number}.png', flat(10 * number))
        for number in labelled:
            save(root / 'val' / sequence / 'labels' / f'{number}.png', flat(number % 2)[..., 0])
    (root / 'classes.yaml').write_text('classes: [road, car]\nfps: 10')
    return root


@pytest.mark.parametrize('prefix', ['', 'folder:'])
def test_a_data_set_gives_its_sequences_with_sparse_labels(own_video, prefix):
    source = open_source(f'{prefix}{own_video}')  # val is the only split
    frames = list(source)
    assert (source.num_frames, source.size, source.fps) == (6, (32, 48), 10.0)
    assert (source.class_names, source.split, source.name) == (('road', 'car'), 'val', f'{own_video}:val')
    assert [frame.name for frame in frames] == ['0', '1', '2', '7', '8', '0']
    assert [frame.sequence for frame in frames] == ['a'] * 3 + ['b'] * 2 + ['c']
    assert [frame.stamp_ns // MS for frame in frames] == [0, 100, 200, 60_200, 60_300, 120_300]
    assert [None if frame.labels_HW is None else int(frame.labels_HW[0, 0]) for frame in frames] == [
        None, 1, None, None, 0, None,
    ]  # fmt: skip
    assert source.labels(0) is None and source.labels(4).max() == 0 and source.labels(1).min() == 1


def test_boxes_alone_are_no_label_maps(tmp_path):
    info = '[Sequence]\nname=a\nimDir=img1\nframeRate=20\nseqLength=2\nimWidth=48\nimHeight=32\nimExt=.png\n'
    for number in (1, 2):
        save(tmp_path / 'img1' / f'{number:06d}.png', flat(number))
    (tmp_path / 'seqinfo.ini').write_text(info)
    (tmp_path / 'gt').mkdir()
    (tmp_path / 'gt' / 'gt.txt').write_text('1,1,3,4,10,12,1,1,1\n')
    source = open_source(f'mot:{tmp_path}')
    assert (source.class_names, source.split, source.fps) == ((), 'all', 20.0)
    assert [(int(frame.image_HW3.max()), frame.labels_HW) for frame in source] == [(1, None), (2, None)]
    assert source.box_class_names == () and next(iter(source)).boxes is None
    source = open_source(f'mot:{tmp_path}', with_boxes=True)
    assert source.box_class_names == ('pedestrian',)
    assert [frame.boxes.boxes_xyxy.tolist() for frame in source] == [[[3, 4, 13, 16]], []]
    part = FrameRange(2, 2).of(source)
    assert part.box_class_names == ('pedestrian',) and [len(frame.boxes.class_ids_N) for frame in part] == [0]


def test_a_split_is_asked_for_where_none_is_usual(own_video):
    (own_video / 'val').rename(own_video / 'day')
    (own_video / 'night').mkdir()
    with pytest.raises(DataError, match="has no split 'val': choose one of day, night"):
        open_source(str(own_video))
    assert open_source(str(own_video), split='day').num_frames == 6
    with pytest.raises(DataError, match='night'):
        open_source(str(own_video), split='night')


def test_a_range_counts_from_1_and_has_both_ends(own_video):
    source = FrameRange(2, 4).of(open_source(str(own_video)))
    assert (source.num_frames, source.class_names, source.fps) == (3, ('road', 'car'), 10.0)
    assert [int(frame.image_HW3.max()) for frame in source] == [10, 20, 70]
    assert source.labels(0).min() == 1 and source.labels(1) is None
    with pytest.raises(ConfigError, match='val has 6 frames: there are no frames 2-7'):
        FrameRange(2, 7).of(open_source(str(own_video)))
    with pytest.raises(ConfigError, match='frames 3-2: frames count from 1'):
        FrameRange(3, 2)


def test_folder_is_read_in_natural_order_and_may_mix_sizes(tmp_path):
    for name, value, size in (('f10.png', 100, (32, 48)), ('f2.png', 20, (64, 32)), ('f1.PNG', 10, (32, 48))):
        save(tmp_path / name, flat(value, size))
    (tmp_path / 'notes.txt').write_text('not an image')
    source = open_source(str(tmp_path), fps=10.0)
    frames = list(source)
    assert [frame.name for frame in frames] == ['f1.PNG', 'f2.png', 'f10.png']
    assert [int(frame.image_HW3[0, 0, 0]) for frame in frames] == [10, 20, 100]
    assert [frame.stamp_ns // MS for frame in frames] == [0, 100, 200]
    assert [frame.image_HW3.shape for frame in frames] == [(32, 48, 3), (64, 32, 3), (32, 48, 3)]
    assert (source.num_frames, source.size, source.fps, source.labels(0)) == (3, (32, 48), 10.0, None)
    assert [frame.name for frame in source] == ['f1.PNG', 'f2.png', 'f10.png']  # a second pass starts over


def test_empty_folder_says_what_it_takes(tmp_path):
    with pytest.raises(ConversionError, match=r'holds no image; known are \.bmp'):
        open_source(str(tmp_path))


def test_truncated_image_is_named_where_its_turn_comes(tmp_path):
    save(tmp_path / 'a.png', flat(1))
    rough = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    broken = save(tmp_path / 'b.jpg', rough)
    broken.write_bytes(broken.read_bytes()[:900])
    frames = iter(open_source(str(tmp_path)))
    assert next(frames).name == 'a.png'
    with pytest.raises(DataError, match=r'b\.jpg cannot be decoded as an image'):
        next(frames)


@pytest.mark.parametrize(
    'picture, expected',
    [
        (np.full((20, 20), 7, np.uint8), (7, 7, 7)),  # grey
        (np.full((20, 20, 4), 9, np.uint8), (9, 9, 9)),  # with alpha
        (np.full((20, 20), 0x4BFF, np.uint16), (0x4B, 0x4B, 0x4B)),  # 16 bits: the high byte
    ],
)
def test_images_become_rgb(tmp_path, picture, expected):
    image = read_image(save(tmp_path / 'a.png', picture))
    assert image.shape == (20, 20, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
    assert tuple(image[5, 5]) == expected


def test_images_are_turned_as_exif_says(tmp_path):
    picture = Image.fromarray(flat(90, (20, 40)))
    exif = picture.getexif()
    exif[0x0112] = 6  # shown after a quarter turn
    picture.save(tmp_path / 'a.jpg', exif=exif)
    assert read_image(tmp_path / 'a.jpg').shape == (40, 20, 3)


def test_video_gives_its_frames_and_stamps(tmp_path):
    with VideoWriter(tmp_path / 'a.mp4', 20) as writer:
        for value in (10, 110, 210):
            writer.write(flat(value))
    source = open_source(str(tmp_path / 'a.mp4'))
    frames = list(source)
    assert (source.num_frames, source.size, source.class_names) == (3, (32, 48), ())
    assert [frame.stamp_ns // MS for frame in frames] == [0, 50, 100]
    np.testing.assert_allclose([frame.image_HW3.mean() for frame in frames], [10, 110, 210], atol=4)


def test_street_has_exact_boxes():
    source = open_source('street', seed=1, size=(96, 128), with_boxes=True)
    assert source.box_class_names == ('car', 'pedestrian', 'bicyclist')
    frame = next(iter(source))
    cars = frame.boxes.boxes_xyxy[frame.boxes.class_ids_N == 0]
    rows, columns = np.nonzero(frame.labels_HW == CAMVID_CLASSES.index('car'))
    assert len(cars) and len(rows)
    x1, y1, x2, y2 = cars.T
    is_inside = (columns[:, None] >= x1 - 1) & (columns[:, None] < x2 + 1)
    is_inside &= (rows[:, None] >= y1 - 1) & (rows[:, None] < y2 + 1)
    assert is_inside.any(1).all()  # every pixel of a car is in one's box


def test_street_is_seeded_labelled_and_endless():
    source = open_source('street', seed=3, size=(48, 64), fps=10.0)
    frames = list(itertools.islice(source, 3))
    again = list(itertools.islice(SourceRequest(text='street', seed=3, fps=10.0).open(), 1))
    assert (source.num_frames, source.size, source.is_rendered) == (None, (48, 64), True)
    assert [frame.stamp_ns // MS for frame in frames] == [0, 100, 200]
    assert again[0].image_HW3.shape == (360, 480, 3)
    assert frames[0].boxes is None and source.box_class_names == ()
    for index, frame in enumerate(frames):
        assert frame.labels_HW.max() < len(CAMVID_CLASSES) or (frame.labels_HW == 255).any()
        np.testing.assert_array_equal(
            open_source('street', seed=3, size=(48, 64), fps=10.0).labels(index), frame.labels_HW
        )
    assert not np.array_equal(
        frames[0].image_HW3, next(iter(open_source('street', seed=4, size=(48, 64)))).image_HW3
    )


@pytest.mark.parametrize(
    'text, options, message',
    [
        ('no/such/thing', {}, "there is no source 'no/such/thing': give street, a video file"),
        ('/dev/video99', {}, 'there is no camera /dev/video99; present are:'),
        ('street', {'fps': 0.0}, 'must be above 0'),
        ('.', {'size': (48, 64)}, 'has its own frame size'),
    ],
)
def test_what_cannot_be_opened_is_explained(text, options, message):
    with pytest.raises(ConfigError) as error:
        open_source(text, **options)
    assert message in str(error.value)
