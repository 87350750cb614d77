# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Average precision against a slow one and by hand: ignored regions, motion, offsets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dff_ros.errors import ConfigError, ShapeError
from dff_ros.evaluation.detection import DetectionScores
from dff_ros.evaluation.precision import MAX_DETECTIONS, average_precision
from dff_ros.evaluation.truth import Objects, Truth, motion_iou
from dff_ros.types import Detections

THRESHOLDS = [0.5 + 0.05 * step for step in range(10)]


def found(*rows, classes=None) -> Detections:
    """Rows are x1, y1, x2, y2, score."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    ids = np.zeros(len(table), np.int64) if classes is None else np.array(classes, np.int64)
    return Detections(table[:, :4], ids, table[:, 4])


def objects(*boxes, classes=None, tracks=None, ignored=()) -> Objects:
    number = len(boxes)
    return Objects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(number, np.int64) if classes is None else np.array(classes, np.int64),
        np.full(number, -1, np.int64) if tracks is None else np.array(tracks, np.int64),
        np.isin(np.arange(number), ignored),
    )


def truth_of(*frames: Objects) -> Truth:
    truth = Truth()
    for number, one in enumerate(frames):
        truth.add(number, 0, one)
    return truth


def precision(frames, answers, class_ids=(0,)):
    return average_precision(truth_of(*frames), dict(enumerate(answers)), class_ids)


def overlap(a, b) -> tuple[float, float]:
    """Shared area over the union, and over the first box."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return shared / (area_a + area_b - shared), shared / area_a


def verdicts(one: Objects, answer: Detections, class_id: int, threshold: float):
    """(score, is_hit) of each detection that counts in a frame, best first."""
    mine = [
        box
        for box, own in zip(answer.boxes_xyxy.tolist(), answer.class_ids_N, strict=True)
        if own == class_id
    ]
    scores = answer.scores_N[answer.class_ids_N == class_id].tolist()
    rows = zip(one.boxes_xyxy.tolist(), one.class_ids_N, one.is_ignored_N, strict=True)
    rows = [(box, is_ignored) for box, own, is_ignored in rows if own == class_id]
    free = [box for box, is_ignored in rows if not is_ignored]
    for score, box in sorted(zip(scores, mine, strict=True), reverse=True)[:100]:
        best = max(free, key=lambda other: overlap(box, other)[0], default=None)
        if best is not None and overlap(box, best)[0] >= threshold:
            free.remove(best)
            yield score, True
        elif not any(is_ignored and overlap(box, other)[1] >= threshold for other, is_ignored in rows):
            yield score, False


def slow_ap(frames, answers, class_id: int, threshold: float) -> float:
    """Area under the interpolated precision at 101 recalls, in percent."""
    pairs = zip(frames, answers, strict=True)
    counted = sorted(
        (v for one, answer in pairs for v in verdicts(one, answer, class_id, threshold)), reverse=True
    )
    total = sum(int(np.sum(~one.is_ignored_N & (one.class_ids_N == class_id))) for one in frames)
    if not total:
        return math.nan
    curve, hits = [], 0
    for number, (_, is_hit) in enumerate(counted, 1):
        hits += is_hit
        curve.append((hits / total, hits / number))
    reached = (max((p for r, p in curve if r >= recall), default=0.0) for recall in np.linspace(0, 1, 101))
    return 100 * sum(reached) / 101


def random_case(seed: int, num_frames: int = 25):
    """Objects of three classes, some ignored; detections near most of them and elsewhere."""
    rng = np.random.default_rng(seed)
    frames, answers = [], []
    for _ in range(num_frames):
        number = rng.integers(0, 7)
        corner, size = rng.uniform(0, 80, (number, 2)), rng.uniform(10, 40, (number, 2))
        boxes = np.hstack([corner, corner + size])
        ids = rng.choice([1, 2, 4], number)
        frames.append(objects(*boxes, classes=ids, ignored=np.flatnonzero(rng.random(number) < 0.2)))
        near = np.repeat(boxes, 2, 0) + rng.normal(0, 1.5, (2 * number, 4))
        far = rng.uniform(0, 60, (2, 4)) + np.array([0, 0, 60, 60])
        classes = np.append(np.repeat(ids, 2), rng.choice([1, 2, 4], 2))
        kept = rng.permutation(len(classes))[: len(classes) // 2 + 1]
        answer = np.vstack([near, far])[kept]
        scores = rng.random((len(kept), 1))
        answers.append(found(*np.hstack([answer, scores]), classes=classes[kept]))
    return frames, answers


@pytest.mark.parametrize('seed', [0, 1])
def test_equals_a_slow_average_precision(seed):
    frames, answers = random_case(seed)
    scores = precision(frames, answers, (1, 2, 4))
    for index, class_id in enumerate((1, 2, 4)):
        expected = [slow_ap(frames, answers, class_id, threshold) for threshold in THRESHOLDS]
        assert 10 < np.mean(expected) < expected[0] - 5 < 80
        assert scores.ap50_K[index] == pytest.approx(expected[0], abs=1e-6)
        assert scores.ap_K[index] == pytest.approx(np.mean(expected), abs=1e-6)
    assert scores.ap50 == pytest.approx(np.mean(scores.ap50_K))


def test_a_perfect_detector_has_100():
    frames, _ = random_case(3)
    perfect = [
        found(*np.hstack([one.boxes_xyxy, np.full((len(one.boxes_xyxy), 1), 0.9)]), classes=one.class_ids_N)
        for one in frames
    ]
    scores = precision(frames, perfect, (1, 2, 4))
    assert scores.ap50_K == scores.ap_K == pytest.approx((100.0, 100.0, 100.0))
    assert all(map(math.isnan, scores.ap50_by_motion))  # no tracks


BOX, FAR = (10, 10, 30, 50), (60, 10, 80, 50)


@pytest.mark.parametrize(
    'answer, expected',
    [
        ([(*BOX, 0.9), (*FAR, 0.8)], 100.0),
        ([(*BOX, 0.9)], 100 * 51 / 101),  # half of the objects: recalls 0 .. 0.5
        ([(*BOX, 0.9), (*BOX, 0.8), (*FAR, 0.7)], 100 * (51 + 50 * 2 / 3) / 101),  # the second one is false
        ([(90, 90, 99, 99, 0.9), (*BOX, 0.8), (*FAR, 0.7)], 100 * 2 / 3),
        ([], 0.0),
    ],
)
def test_ap50_by_hand(answer, expected):
    assert precision([objects(BOX, FAR)], [found(*answer)]).ap50 == pytest.approx(expected, abs=1e-6)


def test_ap_averages_the_overlaps_from_half_to_95_percent():
    shifted = (10, 10, 30, 36)  # 26 of 40: IoU 0.65 reaches 0.50, 0.55, 0.60 and 0.65
    scores = precision([objects(BOX)], [found((*shifted, 0.9))])
    assert (scores.ap50, scores.ap) == pytest.approx((100.0, 40.0))


REGION = (40, 0, 100, 100)


@pytest.mark.parametrize(
    'answer, expected',
    [
        ((*FAR, 0.9), 100.0),  # inside
        ((62, 20, 70, 30, 0.9), 100.0),  # inside, and as small as one likes
        ((30, 10, 60, 50, 0.9), 100.0),  # two thirds of it inside
        ((10, 60, 60, 90, 0.9), 50.0),  # two fifths of it: false
    ],
)
def test_a_detection_in_an_ignored_region_counts_neither_way(answer, expected):
    """Beside a hit with a lower score: a false one halves its precision."""
    truth = objects(BOX, REGION, ignored=[1])
    assert precision([truth], [found((*BOX, 0.5), answer)]).ap50 == pytest.approx(expected)
    several = [(*BOX, 0.5), answer, (*answer[:4], 0.8)]  # a region takes any number
    assert precision([truth], [found(*several)]).ap50 == pytest.approx(100.0 if expected == 100 else 100 / 3)


def test_an_ignored_region_is_of_its_class_and_no_object():
    truth = objects(BOX, BOX, REGION, classes=[0, 1, 0], ignored=[2])
    answer = found((*BOX, 0.5), (*BOX, 0.5), (*FAR, 0.9), (*FAR, 0.9), classes=[0, 1, 0, 1])
    assert precision([truth], [answer], (0, 1)).ap50_K == pytest.approx((100.0, 50.0))
    assert math.isnan(precision([objects(REGION, ignored=[0])], [found((*FAR, 0.9))]).ap50)
    assert truth_of(truth).num_objects == 2


def test_classes_that_are_not_asked_for_do_not_count():
    truth = objects(BOX, classes=[2])
    answer = found((*BOX, 0.5), (*FAR, 0.9), classes=[2, 7])
    scores = precision([truth], [answer], (1, 2))
    assert math.isnan(scores.ap50_K[0]) and scores.ap50_K[1] == scores.ap50 == pytest.approx(100.0)


def test_the_best_hundred_of_a_class_in_a_frame_count():
    answers = [(*FAR, 0.9 - 0.001 * rank) for rank in range(MAX_DETECTIONS)]
    hit = (*BOX, 0.1)
    assert precision([objects(BOX)], [found(*answers[1:], hit)]).ap50 == pytest.approx(1.0)
    assert precision([objects(BOX)], [found(*answers, hit)]).ap50 == 0.0


def test_nothing_at_all_has_no_figure():
    for frames, answers in (([], []), ([objects()], [found()]), ([objects()], [found((*BOX, 0.5))])):
        scores = precision(frames, answers)
        assert math.isnan(scores.ap50) and math.isnan(scores.ap), frames


def test_motion_iou_is_the_mean_over_ten_frames_on_both_sides():
    box = np.array([0, 0, 10, 10], np.float32)
    frames = np.array([0, 1, 4, 30])
    boxes = np.stack([box, box, box + np.array([5, 0, 5, 0], np.float32), box])
    # 0 and 1 are equal, 4 has IoU 1/3 with both; 30 is far from all.
    expected = [(1 + 1 / 3) / 2, (1 + 1 / 3) / 2, 1 / 3, math.nan]
    np.testing.assert_allclose(motion_iou(frames, boxes), expected)
    rng = np.random.default_rng(0)
    frames = np.flatnonzero(rng.random(60) < 0.7)
    corner = np.cumsum(rng.normal(0, 1, (len(frames), 2)), 0)
    boxes = np.hstack([corner, corner + 20]).astype(np.float32)
    slow = [
        np.mean([overlap(b, o)[0] for g, o in zip(frames, boxes, strict=True) if 0 < abs(f - g) <= 10])
        for f, b in zip(frames, boxes, strict=True)
    ]
    np.testing.assert_allclose(motion_iou(frames, boxes), slow, rtol=1e-5)


def moving(step: float, frame: int, top: float) -> tuple[float, float, float, float]:
    return step * frame, top, step * frame + 100, top + 20


def test_precision_by_motion():
    """Three tracks of one class, 100 px wide, move by 0, 5 and 20 px a frame."""
    frames = [
        objects(*[moving(step, number, top) for step, top in ((0, 0), (5, 40), (20, 80))], tracks=[3, 5, 9])
        for number in range(6)
    ]
    answers = [
        found(*[(*box, 0.5 - 0.1 * row) for row, box in enumerate(one.boxes_xyxy[: 2 + number % 2])])
        for number, one in enumerate(frames)
    ]
    truth = truth_of(*frames)
    assert [truth.motion_codes(number).tolist() for number in range(6)] == [[1, 2, 3]] * 6
    scores = precision(frames, answers)
    assert scores.ap50_by_motion == pytest.approx((100.0, 100.0, 100 * 51 / 101))
    answers[0] = found((300, 300, 320, 320, 0.9), (*frames[0].boxes_xyxy[0], 0.5))
    scores = precision(frames, answers)  # the false one counts in each, the missed one in its own only
    slow, medium, fast = scores.ap50_by_motion
    assert slow == pytest.approx(100 * 6 / 7)
    assert medium == pytest.approx(100 * (84 / 101) * 5 / 6)  # 5 of 6: recalls 0 .. 0.83
    assert fast == pytest.approx(100 * (51 / 101) * 3 / 4)


def test_tracks_end_with_their_sequence_and_need_a_number():
    truth = Truth()
    truth.add(0, 0, objects(BOX, FAR, tracks=[1, -1]))
    truth.add(1, 1, objects(BOX, FAR, tracks=[1, -1]))
    assert truth.motion_codes(0).tolist() == [0, 0]
    truth.add(2, 1, objects(BOX, FAR, tracks=[1, -1]))
    assert [truth.motion_codes(frame).tolist() for frame in (0, 1, 2)] == [[0, 0], [1, 0], [1, 0]]


def test_figures_of_an_interval_are_means_over_its_offsets():
    truth = truth_of(objects(BOX, FAR, classes=[1, 3]), objects(BOX, FAR, classes=[1, 3]))
    scores = DetectionScores(2, {1: 'car', 3: 'bus'}, truth)
    both = found((*BOX, 0.9), (*FAR, 0.8), classes=[1, 3])
    scores.update(0, 0, both)
    scores.update(0, 1, both)
    scores.update(1, 1, found((*BOX, 0.9), (*BOX, 0.8), classes=[1, 3]))
    figures = scores.figures(2)
    assert figures == {
        'ap50': 75.0, 'ap': 75.0, 'loss': 25.0, 'loss_ap': 25.0,
        'by_offset': [100.0, 50.0], 'ap_by_offset': [100.0, 50.0], 'worst_offset': 1, 'worst_ap50': 50.0,
        'ap50_per_class': {'car': 100.0, 'bus': 50.0}, 'ap_per_class': {'car': 100.0, 'bus': 50.0},
        'ap50_by_motion': {'slow': None, 'medium': None, 'fast': None},
    }  # fmt: skip
    assert (scores.figures(1)['ap50'], scores.figures(1)['worst_offset']) == (100.0, 0)
    with pytest.raises(ConfigError, match='interval: got 3, allowed is from 1 to 2'):
        scores.figures(3)
    with pytest.raises(ShapeError, match='offset 0: frame 1 is counted twice'):
        scores.update(0, 1, both)


def test_an_offset_without_a_frame_leaves_the_interval_without_a_figure():
    scores = DetectionScores(2, {0: 'car'}, truth_of(objects(BOX)))
    scores.update(0, 0, found((*BOX, 0.9)))
    figures = scores.figures(2)
    assert (figures['ap50'], figures['by_offset'], figures['worst_offset']) == (None, [100.0, None], 0)
    scores.update(1, 0, found((*BOX, 0.9)))  # a figure is made anew after more frames
    assert scores.figures(2)['ap50'] == 100.0


def test_objects_need_equal_numbers_of_rows():
    with pytest.raises(ShapeError, match=r'boxes, classes, tracks, ignored: \[2, 2, 2, 1\] rows'):
        one = objects(BOX, FAR)
        Objects(one.boxes_xyxy, one.class_ids_N, one.track_ids_N, one.is_ignored_N[:1])
