# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Stop-and-go and cut sources: what each frame shows, its stamp, labels and noise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from eval_helpers import Clip, numbered_clip
from PIL import Image

from dff_ros.data.classes import CAMVID_CLASSES
from dff_ros.errors import ConfigError
from dff_ros.made_sources import CutSource, StopGoSource, source_paths, stop_and_go
from dff_ros.sources import open_source


def shown(source) -> list[int]:
    """The number of the picture of each frame, from its mean grey level; noise of 2 levels averages out."""
    return [round(float(item.image_HW3.mean())) for item in source]


def test_each_speed_is_followed_by_a_stop():
    wanted = list(itertools.islice(stop_and_go(first=0, num_frames=4), 28))
    assert [number for number, _ in wanted] == [
        *(0, 1, 2, 3), *(4, 4, 4, 4), *(4, 4, 5, 5), *(6, 6, 6, 6), *(6, 8, 10, 12), *(14, 14, 14, 14),
        *(14, 15, 16, 17),
    ]  # fmt: skip
    gaits = ['normal', 'still', 'half', 'still', 'double', 'still', 'normal']
    assert [gait for _, gait in wanted] == [gait for gait in gaits for _ in range(4)]
    doubled = [number for number, _ in itertools.islice(stop_and_go(first=2, num_frames=2), 8)]
    assert doubled == [0, 2, 4, 4, 4, 5, 6, 6]


def test_stop_and_go_of_a_clip():
    clip = numbered_clip(range(0, 100, 10))
    clip.fps = 4.0
    frames = list(StopGoSource(clip))
    numbers = [
        *(0, 1, 2, 3, 4, 4, 4, 4, 4, 4, 5, 5, 6, 6, 6, 6, 6, 8),
        *(0, 0, 1, 1, 2, 2, 2, 2, 2, 4, 6, 8),
        *(0, 2, 4, 6, 8, 8, 8, 8, 8, 9),
    ]
    # Passes begin at normal, half and double speed; each ends with the source.
    assert [round(number / 10) for number in shown(frames)] == numbers
    assert [frame.labels_HW[0, 0] // 10 for frame in frames] == numbers
    passes = [frame.sequence for frame in frames]
    assert passes == [' pass 1'] * 18 + [' pass 2'] * 12 + [' pass 3'] * 10
    seconds = np.array([frame.stamp_ns for frame in frames]) / 1e9
    np.testing.assert_allclose(seconds[:18], np.arange(18) / 4, atol=1e-6)
    np.testing.assert_allclose(np.diff(seconds)[[17, 29]], 60.0, atol=1e-6)


def test_a_cut_is_told_though_its_first_picture_is_left_out():
    clips = [numbered_clip([level] * 60) for level in (20, 200)]
    clips[0].fps = 4.0
    frames = list(StopGoSource(CutSource(clips)))
    levels = [round(float(frame.image_HW3.mean()), -1) for frame in frames]
    pairs = list(zip(frames, frames[1:], levels, levels[1:], strict=False))
    jumps = [later.sequence == one.sequence and old != new for one, later, old, new in pairs]
    assert [later.is_cut for _, later, _, _ in pairs] == jumps
    assert sum(jumps) == 3 * 7  # in each pass


def test_a_picture_that_is_shown_again_has_noise_of_its_own():
    clip = numbered_clip([100] * 12)
    clip.fps = 4.0
    images = [item.image_HW3.astype(float) for item in StopGoSource(clip)][:8]
    # Frames 0 to 3 move, 4 is the first of the stop, 5 to 7 show it again.
    assert all((images[index] == 100).all() for index in range(5))
    for index in range(5, 8):
        assert images[index].std() == pytest.approx(2.0, abs=0.1)
    assert np.abs(images[6] - images[5]).mean() > 1.0
    again = [item.image_HW3 for item in StopGoSource(clip)][:8]
    np.testing.assert_array_equal(again[6], images[6])


def test_sequences_of_the_source_stay_apart():
    clip = numbered_clip(range(6))
    clip.fps, clip.sequences = 2.0, ['a', 'a', 'a', 'b', 'b', 'b']
    frames = list(StopGoSource(clip))
    first = [(frame.sequence, round(frame.image_HW3.mean())) for frame in frames[:7]]
    assert first == [*(('a pass 1', number) for number in (0, 1, 2, 2, 2, 2)), ('b pass 1', 3)]


def test_cuts_take_turns_until_one_ends():
    dark, bright = numbered_clip(range(40)), numbered_clip(range(100, 120), labels=None, class_names=())
    bright.name = 'bright'
    source = CutSource([dark, bright])
    frames = list(source)
    assert shown(frames) == [*range(15), *range(100, 115), *range(15, 30), *range(115, 120)]
    assert [index for index, frame in enumerate(frames) if frame.is_cut] == [15, 30, 45]
    assert [frame.labels_HW is not None for frame in frames] == [True] * 15 + [False] * 15 + [True] * 15 + [
        False
    ] * 5
    assert (source.class_names, {frame.sequence for frame in frames}) == (CAMVID_CLASSES, {''})
    assert frames[20].name == 'bright 5'
    np.testing.assert_allclose(np.diff([frame.stamp_ns for frame in frames]), 1e9 / 15, atol=2)


def test_a_source_that_ends_with_a_scene_ends_the_cuts_at_its_next_turn():
    frames = list(CutSource([numbered_clip(range(15)), numbered_clip(range(100, 140))]))
    assert shown(frames) == [*range(15), *range(100, 115)]


def test_another_sequence_of_a_source_is_a_cut_too():
    clip = numbered_clip(range(20))
    clip.sequences = ['a'] * 5 + ['b'] * 15
    frames = list(CutSource([clip, numbered_clip(range(100, 102))]))
    assert [index for index, frame in enumerate(frames) if frame.is_cut] == [5, 15]


def test_pictures_of_another_shape_are_cropped_around_their_middle():
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 48:144] = 200
    maps = [np.where(wide[..., 0] > 0, 3, 9).astype(np.uint8)]
    frames = list(CutSource([numbered_clip(range(15)), Clip([wide], maps, CAMVID_CLASSES)]))
    assert frames[15].image_HW3.shape == (32, 48, 3)
    assert (frames[15].image_HW3 == 200).all() and (frames[15].labels_HW == 3).all()


def test_cuts_between_labels_of_different_classes_are_refused():
    other = numbered_clip(range(3), class_names=('road', 'car'))
    with pytest.raises(ConfigError, match='clip has other classes than the sources before it'):
        CutSource([numbered_clip(range(3)), other])


@pytest.fixture
def folders(tmp_path):
    for name, value in (('a', 0), ('b', 200)):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.fromarray(np.full((32, 48, 3), value + number, np.uint8)).save(
                tmp_path / name / f'{number}.png'
            )
    return tmp_path


def test_made_sources_by_name(folders):
    moving = open_source(f'stopgo:{folders / "a"}', fps=5.0)
    assert shown(itertools.islice(moving, 12)) == [0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5]
    assert (moving.fps, moving.size, moving.num_frames) == (5.0, (32, 48), None)
    cut = open_source(f'cut:{folders / "a"},{folders / "b"}')
    assert shown(cut)[13:17] == [13, 14, 200, 201]
    assert moving.labels(3) is None
    with pytest.raises(ConfigError, match='cut takes at least two sources'):
        open_source(f'cut:{folders / "a"}')
    with pytest.raises(ConfigError, match='a split is of one data set'):
        open_source(f'cut:{folders / "a"},{folders / "b"}', split='val')
    with pytest.raises(ConfigError, match="there is no source 'nowhere'"):
        open_source('stopgo:nowhere')
    for text in ('stopgo:', 'cut:', f'cut:{folders / "a"},'):
        with pytest.raises(ConfigError, match='there is no source where one should be'):
            open_source(text)


@pytest.mark.parametrize('text', ['{}', 'camvid:{}', 'stopgo:{}', 'stopgo:camvid:{}'])
def test_the_path_of_a_source(tmp_path, text):
    assert source_paths(text.format(tmp_path)) == [tmp_path]


def test_the_paths_of_cuts(tmp_path):
    assert source_paths(f'cut:camvid:{tmp_path},street') == [tmp_path, source_paths('street')[0]]
    assert [str(path) for path in source_paths('street')] == ['street']
