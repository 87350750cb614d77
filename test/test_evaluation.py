# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The numbers of an evaluation by hand: offsets, consistency, costs, and the metric against torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dff_ros.errors import ConfigError, ShapeError
from dff_ros.evaluation.consistency import Consistency
from dff_ros.evaluation.metrics import ConfusionMatrix
from dff_ros.evaluation.offsets import OffsetScores
from dff_ros.evaluation.segmentation import SegmentationScores
from dff_ros.evaluation.speed import StageCost, StageTimes
from dff_ros.evaluation.table import cost

NAMES = ('road', 'car', 'pole')


def labels(text: str) -> np.ndarray:
    return np.array([[int(digit) for digit in text]], np.uint8)


def three_offsets() -> OffsetScores:
    """Truth 0011 throughout: offset 0 is right, offset 1 has one pixel wrong, offset 2 all but one."""
    scores = OffsetScores(3, 3)
    for offset, predicted in enumerate(('0011', '0111', '1101')):
        scores.update(offset, labels('0011'), labels(predicted))
    return scores


def test_an_interval_is_the_mean_over_its_offsets():
    scores = three_offsets()
    # offset 1: road 1/2, car 2/3; offset 2: road 0/3 (two missed, one false), car 1/4
    one, two, three = 100.0, 100 * (1 / 2 + 2 / 3) / 2, 100 * (0 + 1 / 4) / 2
    assert scores.score(1).miou == 100.0
    assert scores.score(2).miou == pytest.approx((one + two) / 2)
    assert scores.score(3).miou == pytest.approx((one + two + three) / 3)
    assert scores.score(3).by_offset == pytest.approx((one, two, three))
    assert scores.score(3).pixel_accuracy == pytest.approx((100 + 75 + 25) / 3)
    road, car, pole = scores.score(3).iou_per_class
    assert (road, car) == pytest.approx((100 * (1 + 1 / 2 + 0) / 3, 100 * (1 + 2 / 3 + 1 / 4) / 3))
    assert math.isnan(pole)
    assert [scores.score(interval).worst_offset for interval in (1, 2, 3)] == [0, 1, 2]


def test_counts_of_one_offset_are_pooled_before_the_iou():
    scores = OffsetScores(1, 3)
    scores.update(0, labels('0000'), labels('0000'))
    scores.update(0, labels('0011'), labels('0000'))
    assert scores.score(1).miou == pytest.approx(100 * (6 / 8 + 0) / 2)  # not the mean of two frames' figures


def test_a_class_is_averaged_over_the_offsets_that_have_it():
    scores = OffsetScores(2, 3)
    scores.update(0, labels('0002'), labels('0002'))
    scores.update(1, labels('0000'), labels('0001'))
    assert scores.score(2).iou_per_class[0] == pytest.approx((100 + 75) / 2)
    assert scores.score(2).iou_per_class[2] == 100.0


def test_an_offset_without_a_pair_leaves_its_intervals_without_a_figure():
    scores = OffsetScores(3, 3)
    scores.update(0, labels('01'), labels('01'))
    scores.update(1, labels('01'), labels('00'))
    assert scores.score(2).miou == pytest.approx((100 + 25) / 2)
    assert math.isnan(scores.score(3).miou)
    assert scores.score(3).worst_offset == 1
    with pytest.raises(ConfigError, match='interval: got 4, allowed is from 1 to 3'):
        scores.score(4)


def test_worst_offset_is_the_first_of_equals():
    scores = OffsetScores(3, 3)
    for offset, predicted in enumerate(('01', '00', '00')):
        scores.update(offset, labels('01'), labels(predicted))
    assert scores.score(3).worst_offset == 1


def test_consistency_follows_the_published_sequence_of_every_phase():
    table = Consistency(3)
    before = [labels('0000')[0], labels('0011')[0], labels('1111')[0]]  # offsets 0, 1, 2
    now = [labels('0000')[0], labels('0001')[0], labels('0111')[0]]
    table.count(before, now)
    # l = 1: key after key, 0000 -> 0000. l = 2: offset 1 from offset 0, 0000 -> 0001, and key from offset 1,
    # 0011 -> 0000. l = 3: 0000 -> 0001, 0011 -> 0111, and key from offset 2, 1111 -> 0000.
    assert table.percent(1) == 100.0
    assert table.percent(2) == (75 + 50) / 2
    assert table.percent(3) == pytest.approx((75 + 75 + 0) / 3)
    table.count(before[:1], [labels('0001')[0]])  # a shorter sequence adds to the kinds it has
    assert table.percent(1) == 100 * 7 / 8
    assert table.percent(2) == (75 + 50) / 2


def test_consistency_without_a_step_is_no_figure():
    table = Consistency(2)
    assert math.isnan(table.percent(1))
    table.count([labels('00')[0]], [labels('00')[0], labels('00')[0]])
    assert table.percent(1) == 100.0
    assert math.isnan(table.percent(2))  # never a key after an offset of 1
    with pytest.raises(ShapeError, match=r'before are \(2,\), now \(1,\)'):
        table.count([labels('00')[0]], [labels('0')[0]])


def test_cost_of_a_frame_and_equation_7():
    cost = StageCost(extract=90.0, propagate=10.0, predict=10.0)
    assert cost.ratio == 0.2
    assert cost.per_frame(1) == 100.0
    assert cost.per_frame(5) == (100 + 4 * 20) / 5
    assert cost.speedup(5) == pytest.approx(5 / (1 + 4 * 0.2))
    assert cost.speedup(5) == pytest.approx(cost.per_frame(1) / cost.per_frame(5))
    never_propagated = StageCost(90.0, math.nan, 10.0)
    assert (never_propagated.per_frame(1), never_propagated.speedup(1)) == (100.0, 1.0)


def test_measured_times_are_means_over_offsets_of_means_over_frames():
    times = StageTimes(3)
    for extract_ms in (80.0, 90.0, 130.0):
        times.add_key(extract_ms, 10.0)
    times.add_propagated(1, 5.0, 15.0)
    times.add_propagated(1, 25.0, 15.0)
    times.add_propagated(2, 60.0, 10.0)
    assert times.medians() == StageCost(extract=90.0, propagate=25.0, predict=10.0)
    assert times.mean_ms(1) == 110.0
    assert times.mean_ms(2) == (110 + 30) / 2
    assert times.mean_ms(3) == (110 + 30 + 70) / 3
    assert times.speedup(3) == pytest.approx(110 / 70)


def test_a_row_has_every_figure():
    scores, times = SegmentationScores(2, NAMES), StageTimes(2)
    for offset, predicted in enumerate(('0011', '0111')):
        scores.accuracy.update(offset, labels('0011'), labels(predicted))
        scores.agreement.update(offset, labels('0011'), labels(predicted))
    scores.consistency.count([labels('00')[0]] * 2, [labels('00')[0], labels('01')[0]])
    times.add_key(90.0, 10.0)
    times.add_propagated(1, 10.0, 10.0)
    assert {**scores.figures(2), **cost(times, StageCost(8.0, 1.0, 0.5), 2)} == {
        'miou': 79.17, 'loss': 20.83,
        'iou_per_class': {'road': 75.0, 'car': 83.33, 'pole': None}, 'by_offset': [100.0, 58.33],
        'worst_offset': 1, 'worst_miou': 58.33, 'agreement': 87.5, 'agreement_miou': 79.17,
        'agreement_by_offset': [100.0, 75.0], 'consistency': 75.0, 'ms_extract': 90.0, 'ms_propagate': 10.0,
        'ms_predict': 10.0, 'ms_per_frame': 60.0, 'speedup': 1.667, 'eq7': 1.667, 'gmac_per_frame': 5.0,
        'eq7_gmac': 1.7,
    }  # fmt: skip


def test_a_row_without_labels_and_without_counts():
    scores, times = SegmentationScores(1, NAMES), StageTimes(1)
    scores.agreement.update(0, labels('01'), labels('01'))
    times.add_key(90.0, 10.0)
    row = {**scores.figures(1), **cost(times, None, 1)}
    unknown = ('miou', 'loss', 'iou_per_class', 'by_offset', 'worst_offset', 'worst_miou', 'consistency')
    for name in (*unknown, 'ms_propagate', 'gmac_per_frame', 'eq7_gmac'):
        assert row[name] is None, name
    assert (row['agreement'], row['ms_per_frame'], row['speedup'], row['eq7']) == (100.0, 100.0, 1.0, 1.0)


def random_pixels(num_classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth with 255 and prediction; about half of the pixels agree, and every class occurs in the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, num_classes, (4, 30, 40)).astype(np.uint8)
    predicted = np.where(rng.random(truth.shape) < 0.5, truth, rng.integers(0, num_classes, truth.shape))
    truth.reshape(-1)[:num_classes] = np.arange(num_classes)
    truth[rng.random(truth.shape) < 0.1] = 255
    return truth, predicted.astype(np.uint8)


@pytest.mark.parametrize('num_classes', [2, 11, 254])
def test_metric_equals_sets_of_pixels(num_classes):
    truth, predicted = random_pixels(num_classes, num_classes)
    matrix = ConfusionMatrix(num_classes)
    for frame in range(len(truth)):
        matrix.update(truth[frame], predicted[frame])
    labelled = truth.ravel() != 255
    expected = []
    for k in range(num_classes):
        true = set(np.flatnonzero(labelled & (truth.ravel() == k)).tolist())
        given = set(np.flatnonzero(labelled & (predicted.ravel() == k)).tolist())
        expected.append(100 * len(true & given) / len(true | given) if true else math.nan)
    np.testing.assert_allclose(matrix.iou_per_class(), expected, rtol=1e-12)
    assert matrix.miou() == pytest.approx(np.nanmean(expected), rel=1e-12)


def test_intervals_of_a_data_set_equal_torchmetrics_frame_by_frame():
    classification = pytest.importorskip('torchmetrics.classification')
    torch = pytest.importorskip('torch')
    scores = OffsetScores(4, 11)
    oracles = [classification.MulticlassJaccardIndex(11, ignore_index=255) for _ in range(4)]
    accuracies = [classification.MulticlassAccuracy(11, average='micro', ignore_index=255) for _ in range(4)]
    for offset in range(4):
        truth, predicted = random_pixels(11, offset)
        for frame in range(len(truth) - offset):  # a longer offset has fewer pairs
            scores.update(offset, truth[frame], predicted[frame])
            pixels = [torch.from_numpy(maps[frame].astype(np.int64)) for maps in (predicted, truth)]
            for metric in (oracles[offset], accuracies[offset]):
                metric.update(*(part[None] for part in pixels))
    by_offset = [100 * float(oracle.compute()) for oracle in oracles]
    for interval in (1, 2, 4):
        score = scores.score(interval)
        assert score.by_offset == pytest.approx(by_offset[:interval], rel=1e-6)
        assert score.miou == pytest.approx(np.mean(by_offset[:interval]), rel=1e-6)
        expected = 100 * np.mean([float(metric.compute()) for metric in accuracies[:interval]])
        assert score.pixel_accuracy == pytest.approx(expected, rel=1e-6)
        assert score.worst_offset == int(np.argmin(by_offset[:interval]))


@pytest.mark.parametrize('num_classes', [2, 11, 60])
def test_metric_equals_torchmetrics(num_classes):
    classification = pytest.importorskip('torchmetrics.classification')
    torch = pytest.importorskip('torch')
    truth, predicted = random_pixels(num_classes, num_classes)
    matrix = ConfusionMatrix(num_classes)
    matrix.update(truth, predicted)
    pixels = torch.from_numpy(predicted.astype(np.int64)), torch.from_numpy(truth.astype(np.int64))
    oracle = classification.MulticlassJaccardIndex(num_classes, average=None, ignore_index=255)
    np.testing.assert_allclose(matrix.iou_per_class() / 100, oracle(*pixels), rtol=1e-6)
    accuracy = classification.MulticlassAccuracy(num_classes, average='micro', ignore_index=255)
    assert matrix.pixel_accuracy() / 100 == pytest.approx(float(accuracy(*pixels)), rel=1e-6)
