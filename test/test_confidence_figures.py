# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Expected calibration error by hand, and fits that find the numbers that the pixels were made with."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dff_ros.confidence import MIN_DECAY_PER_S, ConfidenceCalibration
from dff_ros.errors import ConfigError
from dff_ros.evaluation.confidence import ConfidenceCounts, Reliability

LEVELS = ((np.array([1, 6, 12, 20, 30, 45]) + 0.5) / 64) ** 2
AGES = (0.5, 1.0, 2.0)


def bools(num_right: int, num_wrong: int) -> np.ndarray:
    return np.array([True] * num_right + [False] * num_wrong)


def test_the_error_is_the_mean_distance_of_confidence_and_accuracy_over_the_bins():
    found = Reliability(2)
    found.add(0, np.full(4, 255, np.uint8), bools(3, 1))  # the last bin: told 1, right 0.75
    found.add(0, np.array([51, 67], np.uint8), bools(1, 1))  # one bin: told 59/255, right 0.5
    figures = found.figures(0, 1)
    assert figures.error == pytest.approx((4 * 0.25 + 2 * (0.5 - 59 / 255)) / 6)
    assert (figures.mean, figures.accuracy) == pytest.approx(((4 + 2 * 59 / 255) / 6, 4 / 6))
    np.testing.assert_allclose(figures.bins, [(59 / 255, 0.5, 1 / 3), (1, 0.75, 2 / 3)])


@pytest.mark.parametrize(
    ('values', 'num_bins'), [((51, 67), 1), ((67, 68), 2), ((238, 255), 1), ((237, 238), 2)]
)
def test_there_are_15_bins_of_equal_width(values, num_bins):
    found = Reliability(1)
    found.add(0, np.array(values, np.uint8), bools(2, 0))
    assert len(found.figures(0, 1).bins) == num_bins


def test_offsets_count_the_same_however_many_pixels_they_have():
    found = Reliability(3)
    found.add(0, np.full(100, 255, np.uint8), bools(100, 0))
    found.add(1, np.full(2, 255, np.uint8), bools(0, 2))
    assert found.figures(0, 2).accuracy == 0.5
    assert found.figures(0, 1).error == 0
    assert np.isnan(found.figures(0, 3).error)  # nothing is known of offset 2
    assert found.figures(2, 3).summary() == {'error': None, 'mean': None, 'accuracy': None, 'bins': []}


def made(truth: ConfidenceCalibration, num_pixels: int = 300) -> ConfidenceCounts:
    """Pixels that are right as often as a calibration says."""
    counts = ConfidenceCounts()
    for value in range(5, 256, 5):
        num_right = round(10 * num_pixels * float(truth.table_256[value]) / 255)
        told = np.full(10 * num_pixels, value, np.uint8)
        counts.add_direct(told, bools(num_right, 10 * num_pixels - num_right))
    for age_s, d, value in itertools.product(AGES, LEVELS, range(60, 256, 15)):
        kept = float(truth.kept(np.array([d], np.float32), age_s)[0])
        num_right = round(num_pixels * float(truth.table_256[value]) / 255 * kept)
        told = np.full(num_pixels, value, np.uint8)
        disagreement = np.full(num_pixels, d, np.float32)
        counts.add_propagated(age_s, told, disagreement, bools(num_right, num_pixels - num_right))
    return counts


@pytest.mark.parametrize(
    'truth',
    [
        ConfidenceCalibration(gain=0.8, offset=-0.1, disagreement_weight=0.6, decay_per_s=0.15),
        ConfidenceCalibration(gain=1.3, offset=0.4, disagreement_weight=0.0, decay_per_s=0.5),
        ConfidenceCalibration(gain=0.6, offset=0.0, disagreement_weight=1.5, decay_per_s=0.005),
    ],
)
def test_a_fit_finds_the_numbers(truth):
    found = made(truth).fit()
    assert (found.gain, found.offset) == pytest.approx((truth.gain, truth.offset), abs=0.01)
    assert found.disagreement_weight == pytest.approx(truth.disagreement_weight, abs=0.03)
    assert found.decay_per_s == pytest.approx(truth.decay_per_s, abs=0.02)
    assert found.known_age_s == 2.0


def test_a_head_that_is_surer_where_it_is_wrong_is_no_basis():
    counts = made(ConfidenceCalibration())
    counts.direct[1:] = counts.direct[:0:-1]
    with pytest.raises(ConfigError, match='where the head is surer it is no more often right'):
        counts.fit()


def test_what_gets_better_with_age_is_no_fall():
    counts = made(ConfidenceCalibration(disagreement_weight=0.5))
    for age, number in counts.by_age.items():
        number[:, 1] += (number[:, 0] * 0.3 * age / 200).astype(int)
    assert counts.fit().decay_per_s == MIN_DECAY_PER_S


def test_the_derivatives_are_those_of_the_likelihood():
    counts = made(ConfidenceCalibration(gain=0.9, decay_per_s=0.2), 30)
    for objective, point in (
        (counts._platt, (0.9, 0.1)),
        (counts._fall(ConfidenceCalibration()), (0.7, 0.3)),
    ):
        _, gradient, second = objective(np.array(point))
        for axis in (0, 1):
            step = 1e-5 * np.eye(2)[axis]
            above, below = objective(point + step), objective(point - step)
            assert (above[0] - below[0]) / 2e-5 == pytest.approx(gradient[axis], rel=1e-4)
            np.testing.assert_allclose((above[1] - below[1]) / 2e-5, second[axis], rtol=1e-4)


def test_too_little_is_refused():
    counts = ConfidenceCounts()
    counts.add_direct(np.full(3000, 200, np.uint8), bools(2500, 500))
    with pytest.raises(
        ConfigError, match='2500 pixels are right per frame and 500 wrong.* needs 1000 of each'
    ):
        counts.fit()
    counts.add_direct(np.full(3000, 200, np.uint8), bools(2500, 500))
    with pytest.raises(ConfigError, match='no frame follows another one soon enough'):
        counts.fit()
