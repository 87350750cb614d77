# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Frames shrunk and kept, and the parts that are held out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dff_ros.data.kept_videos import FrameMemory, KeptVideos, VideoPart, hold_out_labelled, hold_out_tail
from dff_ros.data.video_set import SequenceInfo, VideoFrame
from dff_ros.errors import DataError

SIZE = (40, 80)


class Counted:
    """Frames of one grey, their number; labels in two halves; how often each was read."""

    class_names = ('a', 'b')
    box_class_names: tuple[str, ...] = ()

    def __init__(self, *labelled: tuple[int, ...], num_frames: int = 20) -> None:
        stamps = tuple(range(0, 100 * num_frames, 100))
        self.sequences = [SequenceInfo(f's{k}', stamps, which) for k, which in enumerate(labelled)]
        self.reads: Counter[tuple[int, int]] = Counter()
        self.label_size = SIZE

    def frame(self, sequence: int, index: int) -> VideoFrame:
        self.reads[sequence, index] += 1
        image = np.full((*SIZE, 3), 20 * sequence + index, np.uint8)
        image[::2] += 100
        return VideoFrame(f'{sequence}:{index}', image, self.sequences[sequence].stamps_ns[index])

    def labels(self, sequence: int, index: int) -> np.ndarray | None:
        labels = np.zeros(self.label_size, np.uint8)
        labels[:, 40:] = 1
        return labels

    def boxes(self, sequence: int, index: int) -> None:
        return None


def frames_of(part: VideoPart) -> list[tuple[int, list[int], list[int]]]:
    """(Sequence, its frames, its labelled frames) of the whole set for each sequence of the part."""
    found = []
    for number, info in enumerate(part.sequences):
        names = [part.frame(number, index).name.split(':') for index in range(len(info))]
        labelled = [int(names[index][1]) for index in info.labelled]
        found.append((int(names[0][0]), [int(index) for _, index in names], labelled))
    return found


def test_large_frames_are_averaged_and_their_labels_sampled():
    videos = KeptVideos([Counted((3,))], 20 * 40, FrameMemory(1))
    image, labels = videos.frame(0, 3).image_HW3, videos.labels(0, 3)
    np.testing.assert_array_equal(image, np.full((20, 40, 3), 53, np.uint8))
    assert labels is not None
    np.testing.assert_array_equal(labels, np.repeat([[0, 1]], 20, axis=1).repeat(20, axis=0))
    assert videos.labels(0, 4) is None
    assert videos.frame(0, 3).stamp_ns == 300
    small = KeptVideos([Counted((3,))], 10**6, FrameMemory(1))
    assert small.frame(0, 3).image_HW3.shape == (40, 80, 3)


def test_several_sets_are_one():
    videos = KeptVideos([Counted((), ()), Counted((1,))], 10**6, FrameMemory(1))
    assert [info.name for info in videos.sequences] == ['s0', 's1', 's0']
    assert videos.frame(1, 4).image_HW3[1, 0, 0] == 24
    assert videos.labels(2, 1) is not None and videos.labels(0, 1) is None
    assert videos.class_names == ('a', 'b')


def test_frames_are_read_once_as_long_as_there_is_room():
    source = Counted(())
    frame_mib = 40 * 80 * 3 / 2**20
    videos = KeptVideos([source], 10**6, FrameMemory(2.5 * frame_mib))
    for _ in range(3):
        for index in range(4):
            assert videos.frame(0, index).image_HW3[1, 0, 0] == index
    assert source.reads == {(0, 0): 1, (0, 1): 1, (0, 2): 3, (0, 3): 3}


def test_labels_of_another_size_are_named_before_they_are_shrunk():
    source = Counted((3,))
    source.label_size = (20, 40)
    videos = KeptVideos([source], 20 * 40, FrameMemory(1))
    with pytest.raises(DataError, match='labels of 0:3 are 40x20 pixels, the frame 80x40'):
        videos.frame(0, 3)


def test_the_tail_of_each_video_is_held_out():
    train, held_out = hold_out_tail(Counted((), (), num_frames=20), 0.1)
    assert [(s, len(f), f[-1]) for s, f, _ in frames_of(train)] == [(0, 18, 17), (1, 18, 17)]
    assert [(s, f) for s, f, _ in frames_of(held_out)] == [(0, [18, 19]), (1, [18, 19])]
    whole, nothing = hold_out_tail(Counted((), ()), 0.0)
    assert len(whole.sequences) == 2 and len(nothing.sequences) == 0


@pytest.mark.parametrize(
    ('labelled', 'share', 'trained', 'held'),
    [
        # one labelled frame in each sequence: whole sequences
        (((19,), (19,), (19,), (19,)), 0.25, [(0, 19), (1, 19), (2, 19)], [(3, 19)]),
        # the cut is in a sequence, after the last labelled frame of training
        (((2, 5), (4, 9, 15)), 0.4, [(0, 2), (0, 5), (1, 4)], [(1, 9), (1, 15)]),
        (((2, 5), (4, 9, 15)), 0.6, [(0, 2), (0, 5)], [(1, 4), (1, 9), (1, 15)]),
        (((2, 5), ()), 0.5, [(0, 2)], [(0, 5)]),
        (((2, 5),), 0.0, [(0, 2), (0, 5)], []),
    ],
)
def test_the_last_labelled_frames_are_held_out(labelled, share, trained, held):
    train, held_out = (frames_of(part) for part in hold_out_labelled(Counted(*labelled), share))
    assert [(s, index) for s, _, which in train for index in which] == trained
    assert [(s, index) for s, _, which in held_out for index in which] == held
    in_train = {(s, index) for s, frames, _ in train for index in frames}
    in_held_out = {(s, index) for s, frames, _ in held_out for index in frames}
    assert in_train.isdisjoint(in_held_out)
    assert len(in_train | in_held_out) == 20 * len(labelled)


def test_a_frame_outside_a_part_is_refused():
    train, _ = hold_out_tail(Counted(()), 0.1)
    with pytest.raises(IndexError, match='frame 18 of 18'):
        train.frame(0, 18)
