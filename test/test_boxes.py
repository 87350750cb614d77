# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Boxes under crop, scale and flip, between lists of classes, and in batches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.box_config import BoxConfig
from dff_ros.data.boxes import boxes_of, mirrored, place_boxes, renamed, scaled
from dff_ros.data.kept_videos import FrameMemory, KeptVideos, VideoPart, hold_out_labelled, whole_sequences
from dff_ros.data.pair_sample import PairSample
from dff_ros.data.paired_transforms import augment_pair, place_pair
from dff_ros.data.pairs import Pair, currents_of, read_pair
from dff_ros.data.transforms import Placement
from dff_ros.data.video_set import Boxes, SequenceInfo, VideoFrame
from dff_ros.errors import ConfigError
from dff_ros.training.pair_batch import stack_pairs

SIZE = (60, 80)
KEEP_ALL = BoxConfig(min_share=0.0, min_visibility=0.0, min_side=0.0)
BOXES = boxes_of(
    [[10, 20, 30, 50], [60, 5, 76, 45], [0, 0, 8, 6]], [0, 1, 0], [False, False, True], [7, 8, 9], [1, 0.5, 1]
)


def placed(
    boxes: Boxes,
    scale: float = 1.0,
    offset: tuple[float, float] = (0.0, 0.0),
    is_flipped: bool = False,
    crop: tuple[int, int] = SIZE,
    config: BoxConfig = KEEP_ALL,
) -> Boxes:
    return place_boxes(boxes, Placement(scale, offset, is_flipped), SIZE, crop, config)


def test_no_change_is_the_identity():
    found = placed(BOXES)
    for name in ('boxes_xyxy', 'class_ids_N', 'track_ids_N', 'visibility_N', 'is_ignored_N'):
        np.testing.assert_array_equal(getattr(found, name), getattr(BOXES, name), name)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ({'offset': (4.0, 5.0)}, [[6, 15, 26, 45], [56, 0, 72, 40], [0, 0, 4, 1]]),
        ({'offset': (-4.0, -5.0), 'crop': (70, 90)}, [[14, 25, 34, 55], [64, 10, 80, 50], [4, 5, 12, 11]]),
        ({'is_flipped': True}, [[50, 20, 70, 50], [4, 5, 20, 45], [72, 0, 80, 6]]),
        ({'scale': 0.5}, [[5, 10, 15, 25], [30, 2.5, 38, 22.5], [0, 0, 4, 3]]),
        (
            {'scale': 2.0, 'offset': (10.0, 4.0), 'crop': (120, 160)},
            [[10, 36, 50, 96], [110, 6, 142, 86], [0, 0, 6, 8]],
        ),
        (
            {'scale': 2.0, 'offset': (10.0, 4.0), 'crop': (120, 160), 'is_flipped': True},
            [[110, 36, 150, 96], [18, 6, 50, 86], [154, 0, 160, 8]],
        ),
    ],
)
def test_boxes_move_with_the_frame(change: dict[str, object], expected: list[list[float]]):
    np.testing.assert_array_equal(placed(BOXES, **change).boxes_xyxy, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize('is_flipped', [False, True])
@pytest.mark.parametrize(('scale', 'offset'), [(1.0, (0.0, 0.0)), (1.0, (7.0, 3.0)), (2.0, (30.0, 21.0))])
def test_a_box_stays_on_what_it_shows(scale: float, offset: tuple[float, float], is_flipped: bool):
    """The box drawn into frame and label map is where the box is afterwards, to the pixel."""
    labels = np.zeros(SIZE, np.uint8)
    labels[22:41, 31:52] = 1
    image = np.repeat(labels[..., None], 3, axis=2) * np.uint8(200)
    pair = PairSample('p', image, image, labels, boxes=boxes_of([[31, 22, 52, 41]], [0]), box_classes=('a',))
    found = place_pair(pair, Placement(scale, offset, is_flipped), (48, 64), KEEP_ALL)
    assert found.labels_HW is not None and found.boxes is not None
    rows, columns = np.nonzero(found.labels_HW == 1)
    shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_array_equal(found.boxes.boxes_xyxy, [shown])
    x1, y1, x2, y2 = (int(edge) for edge in shown)
    assert found.current_HW3[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() == 200


def test_a_cut_box_keeps_what_is_left_and_is_ignored_if_that_is_little():
    boxes = boxes_of([[10, 20, 30, 50]] * 4, [0] * 4, [False, False, False, True])
    config = replace(KEEP_ALL, min_share=0.4)
    # Left of it: 20, 8, 7.9 and 0 of 20 columns.
    half = placed(boxes, offset=(22.0, 0.0), config=config)
    np.testing.assert_array_equal(half.boxes_xyxy, [[0, 20, 8, 50]] * 4)
    np.testing.assert_array_equal(half.is_ignored_N, [False, False, False, True])
    less = placed(boxes, offset=(22.1, 0.0), config=config)
    np.testing.assert_array_equal(less.is_ignored_N, [True] * 4)
    assert len(placed(boxes, offset=(30.0, 0.0), config=config).boxes_xyxy) == 0


def test_what_a_data_set_marks_outside_the_frame_counts_for_nothing():
    """A person half out of the picture is an object, and wholly in the crop that shows the picture."""
    boxes = boxes_of([[-20, 10, 12, 50], [70, 30, 200, 90]], [0, 0])
    found = placed(boxes, crop=(80, 100), offset=(-10.0, -10.0), config=BoxConfig())
    np.testing.assert_array_equal(found.boxes_xyxy, [[10, 20, 22, 60], [80, 40, 90, 70]])
    assert not found.is_ignored_N.any()


def test_tiny_and_hidden_boxes_are_ignored():
    boxes = boxes_of(
        [[0, 0, 4, 20], [0, 0, 3.9, 20], [0, 0, 20, 3], [0, 0, 9, 9]], [0] * 4, visibility_N=[0.2, 1, 1, 0.19]
    )
    np.testing.assert_array_equal(placed(boxes, config=BoxConfig()).is_ignored_N, [False, True, True, True])
    np.testing.assert_array_equal(placed(boxes, 0.5, config=BoxConfig()).is_ignored_N[:1], [True])


def test_scaled_and_mirrored():
    np.testing.assert_array_equal(scaled(BOXES, 0.5, 2.0).boxes_xyxy[0], [5, 40, 15, 100])
    np.testing.assert_array_equal(mirrored(BOXES, 80).boxes_xyxy[:2], [[50, 20, 70, 50], [4, 5, 20, 45]])
    pair = PairSample('p', *(np.zeros((*SIZE, 3), np.uint8),) * 2, boxes=BOXES, box_classes=('a', 'b'))
    flipped = pair.flipped().boxes
    assert flipped is not None
    np.testing.assert_array_equal(flipped.boxes_xyxy, mirrored(BOXES, 80).boxes_xyxy)
    assert pair.still().boxes is BOXES


def test_classes_are_renamed_and_others_drop_out():
    found = renamed(BOXES, ('car', 'dog'), ('bicyclist', 'dog', 'car'))
    np.testing.assert_array_equal(found.class_ids_N, [2, 1, 2])
    found = renamed(BOXES, ('car', 'dog'), ('dog',))
    np.testing.assert_array_equal(found.class_ids_N, [0])
    np.testing.assert_array_equal(found.track_ids_N, [8])
    assert len(renamed(boxes_of([], []), (), ('dog',)).class_ids_N) == 0


def test_drawn_changes_keep_boxes_on_what_they_show():
    """A bright object on a dark frame, through random scale, crop and flip."""
    image = np.zeros((*SIZE, 3), np.uint8)
    image[20:44, 30:54] = 250
    pair = PairSample('p', image, image, boxes=boxes_of([[30, 20, 54, 44]], [0]), box_classes=('a',))
    config = AugmentConfig(brightness=0, contrast=0, saturation=0, hue=0, gamma=0, blur=0, noise=0)
    num_seen = 0
    for seed in range(20):
        found = augment_pair(config, np.random.default_rng(seed), pair, (48, 64), boxes=KEEP_ALL)
        bright = found.current_HW3[..., 0] > 140
        assert found.boxes is not None and len(found.boxes.boxes_xyxy) == bright.any()
        if bright.any():
            rows, columns = np.nonzero(bright)
            shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(found.boxes.boxes_xyxy[0], shown, atol=1.0)
            num_seen += 1
    assert num_seen > 10


# ---- video sets


class Boxed:
    """Two sequences of ten frames; sequence 0 has labels on frame 1 and boxes on 2 and 5, the other none."""

    class_names = ('x', 'y')
    box_class_names = ('dog', 'cat')

    def __init__(self) -> None:
        stamps = tuple(range(0, 10 * 10**8, 10**8))
        self.sequences = (
            SequenceInfo('s0', stamps, (1,), (2, 5), self.box_class_names),
            SequenceInfo('s1', stamps, (), (), ()),
        )

    def frame(self, sequence: int, index: int) -> VideoFrame:
        return VideoFrame(f'{sequence}:{index}', np.full((*SIZE, 3), index, np.uint8), index * 10**8)

    def labels(self, sequence: int, index: int) -> np.ndarray | None:
        return np.zeros(SIZE, np.uint8) if (sequence, index) == (0, 1) else None

    def boxes(self, sequence: int, index: int) -> Boxes | None:
        return boxes_of([[8, 6, 40, 30], [0, 0, index, 10]], [1, 0]) if index in (2, 5) else None


def kept(*names: str, area: int = 10**6) -> KeptVideos:
    return KeptVideos([Boxed(), Boxed()], area, FrameMemory(1), names)


def test_frames_with_labels_or_boxes_are_current_ones():
    assert currents_of(Boxed(), any_current=False) == [(0, 1), (0, 2), (0, 5)]
    assert currents_of(kept('cat'), any_current=False) == [(0, 1), (0, 2), (0, 5), (2, 1), (2, 2), (2, 5)]
    assert currents_of(kept('horse'), any_current=False) == currents_of(kept(), False) == [(0, 1), (2, 1)]


def test_kept_videos_scale_boxes_and_number_their_classes():
    videos = kept('cat', 'horse', 'dog', area=SIZE[0] * SIZE[1] // 4)
    assert videos.sequences[0].box_classes == ('dog', 'cat') and videos.sequences[1].box_classes == ()
    boxes = videos.boxes(2, 5)
    assert boxes is not None
    np.testing.assert_array_equal(boxes.boxes_xyxy, [[4, 3, 20, 15], [0, 0, 2.5, 5]])
    np.testing.assert_array_equal(boxes.class_ids_N, [0, 2])
    assert videos.boxes(2, 4) is None
    only = kept('dog').boxes(0, 2)
    assert only is not None
    np.testing.assert_array_equal(only.boxes_xyxy, [[0, 0, 2, 10]])


def test_the_pair_tells_which_classes_were_looked_for():
    sample = read_pair(kept('cat', 'horse', 'dog'), Pair(0, 0, 5, 3, 2))
    assert sample.box_classes == ('dog', 'cat') and sample.labels_HW is None and sample.boxes is not None
    np.testing.assert_array_equal(sample.boxes.class_ids_N, [1, 0])
    nothing = read_pair(kept('cat'), Pair(0, 0, 1, 0, 1))
    assert nothing.boxes is None and nothing.box_classes == () and nothing.labels_HW is not None


def test_the_tail_of_each_set_is_held_out():
    videos = kept('cat')
    train, held_out = hold_out_labelled(videos, 1 / 3, videos.sets)
    assert currents_of(train, any_current=False) == [(0, 1), (0, 2), (2, 1), (2, 2)]
    assert [info.boxed for info in held_out.sequences if info.boxed] == [(2,), (2,)]
    assert currents_of(whole_sequences(videos, videos.sets[1]), False) == [(0, 1), (0, 2), (0, 5)]
    assert isinstance(held_out, VideoPart) and held_out.boxes(0, 2) is not None


# ---- batches


def sample(boxes: Boxes | None, *classes: str) -> PairSample:
    return PairSample('p', *(np.zeros((*SIZE, 3), np.uint8),) * 2, boxes=boxes, box_classes=classes)


def test_a_batch_has_the_model_s_classes_and_tells_which_are_known():
    none_there = boxes_of([], [])
    samples = [
        sample(BOXES, 'dog', 'cat'), sample(None), sample(none_there, 'dog'), sample(BOXES, 'cow', 'horse')
    ]  # fmt: skip
    batch = stack_pairs(samples, ('cat', 'pig', 'dog'))
    np.testing.assert_array_equal(
        batch.known_BK, [[True, False, True], [False] * 3, [False, False, True], [False] * 3]
    )
    first, no_search, empty, other = batch.boxes_B
    assert no_search is None and other is None
    assert first is not None and empty is not None and len(empty.class_ids_N) == 0
    np.testing.assert_array_equal(first.class_ids_N, [2, 0, 2])
    np.testing.assert_array_equal(first.boxes_xyxy, BOXES.boxes_xyxy)
    part = batch.taken(np.array([2, 0]))
    assert part.boxes_B == (empty, first)
    np.testing.assert_array_equal(part.known_BK, batch.known_BK[[2, 0]])


def test_without_detection_a_batch_knows_nothing():
    batch = stack_pairs([sample(BOXES, 'dog', 'cat')])
    assert batch.boxes_B == (None,) and batch.known_BK.shape == (1, 0)


@pytest.mark.parametrize(
    ('text', 'expected'),
    [('all', ('car', 'dog')), ('', ()), (' ', ()), ('dog', ('dog',)), ('dog, car', ('dog', 'car'))],
)
def test_the_model_s_classes(text: str, expected: tuple[str, ...]):
    assert BoxConfig(classes=text).chosen(['car', 'dog', 'car']) == expected


@pytest.mark.parametrize('text', ['cat', 'car,car', 'all,car'])
def test_classes_that_no_data_has_are_refused(text: str):
    with pytest.raises(
        ConfigError, match=f'boxes.classes: got {text!r}; the data has boxes of car, dog: give'
    ):
        BoxConfig(classes=text).chosen(['car', 'dog'])
