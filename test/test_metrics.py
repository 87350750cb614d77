# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Confusion matrix against hand examples and a slow loop; percentiles."""

import math

import numpy as np
import pytest

from dff_ros.errors import ConfigError, ShapeError
from dff_ros.evaluation.metrics import ConfusionMatrix, percentiles

TRUTH = np.array([[0, 0, 1], [1, 1, 255]], np.uint8)
PREDICTED = np.array([[0, 1, 1], [1, 255, 0]], np.uint8)


def counted(num_classes: int = 3) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(TRUTH, PREDICTED)
    return matrix


def test_hand_example():
    matrix = counted()
    np.testing.assert_array_equal(matrix.counts_KK1, [[1, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 0]])
    # class 0: hit 1, union 2; class 1: hit 2, union 4 (3 true, 1 false); class 2 is not in the ground truth
    np.testing.assert_array_equal(matrix.iou_per_class(), [50, 50, np.nan])
    assert matrix.miou() == 50.0
    assert matrix.pixel_accuracy() == 60.0
    assert matrix.num_pixels == 5


def test_a_class_only_predicted_lowers_others_but_not_the_mean_by_itself():
    matrix = ConfusionMatrix(2)
    matrix.update(np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 1]], np.uint8))
    assert matrix.iou_per_class()[0] == 75.0
    assert matrix.miou() == 75.0


def test_equals_a_loop_over_pixels_and_frames():
    rng = np.random.default_rng(3)
    num_classes, matrix = 5, ConfusionMatrix(5)
    frames = [rng.choice([0, 1, 2, 3, 255], (7, 9, 2)).astype(np.uint8) for _ in range(3)]
    for frame in frames:
        matrix.update(frame[..., 0], frame[..., 1])
    pixels = [tuple(int(v) for v in pair) for frame in frames for pair in frame.reshape(-1, 2)]
    pixels = [(t, p) for t, p in pixels if t != 255]
    for k in range(num_classes):
        hit = sum(t == k and p == k for t, p in pixels)
        union = sum(t == k or p == k for t, p in pixels)
        expected = 100 * hit / union if any(t == k for t, _ in pixels) else math.nan
        np.testing.assert_allclose(matrix.iou_per_class()[k], expected, rtol=1e-12)
    assert matrix.pixel_accuracy() == pytest.approx(100 * sum(t == p for t, p in pixels) / len(pixels))
    assert matrix.miou() == pytest.approx(np.nanmean(matrix.iou_per_class()))


def test_without_pixels_there_is_no_figure():
    matrix = ConfusionMatrix(2)
    matrix.update(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert math.isnan(matrix.miou())
    assert math.isnan(matrix.pixel_accuracy())
    assert matrix.summary(('a', 'b')) == {
        'miou': None, 'pixel_accuracy': None, 'iou_per_class': {'a': None, 'b': None},
    }  # fmt: skip


def test_summary_is_rounded_percent_by_name():
    matrix = ConfusionMatrix(2)
    matrix.update(np.array([[0, 0, 0]], np.uint8), np.array([[0, 0, 1]], np.uint8))
    assert matrix.summary(('road', 'car')) == {
        'miou': 66.67, 'pixel_accuracy': 66.67, 'iou_per_class': {'road': 66.67, 'car': None},
    }  # fmt: skip


@pytest.mark.parametrize(
    ('labels', 'predicted', 'text'),
    [
        (TRUTH, PREDICTED[:1], r'labels are \(2, 3\) and the prediction \(1, 3\)'),
        (TRUTH + np.uint8(2), PREDICTED, 'labels: class id 3 is beyond the highest, 2'),
        (TRUTH, np.full_like(TRUTH, 3), 'prediction: class id 3 is beyond the highest, 2'),
    ],
)
def test_bad_input_is_named(labels: np.ndarray, predicted: np.ndarray, text: str):
    with pytest.raises(ShapeError, match=text):
        ConfusionMatrix(3).update(labels, predicted)


def test_number_of_classes_is_checked():
    with pytest.raises(ConfigError, match='num_classes: got 255, allowed is from 1 to 254'):
        ConfusionMatrix(255)
    with pytest.raises(ShapeError, match='1 class names for 3 classes'):
        counted().summary(('a',))


def test_percentiles_interpolate_between_neighbours():
    assert percentiles([4, 1, 3, 2], (0, 50, 90, 100)) == {
        'p0': 1,
        'p50': 2.5,
        'p90': pytest.approx(3.7),
        'p100': 4,
    }
    assert percentiles([7.0]) == {'p50': 7, 'p99': 7}
    assert percentiles([]) == {'p50': None, 'p99': None}
