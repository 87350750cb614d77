# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Predicted against true disagreement: means, bins, correlation and errors by hand."""

import numpy as np
import pytest

from dff_ros.evaluation.calibration import Calibration, correlation, sum_of


def maps(*values):
    return [np.array(value, np.float32) for value in values]


def test_a_frame_is_the_weighted_mean_of_its_cells():
    found = Calibration()
    found.add(*maps([[0.2, 0.6]], [[0.0, 1.0]], [[1.0, 0.5]]))
    found.add(*maps([[0.2, 0.6]], [[0.0, 1.0]], [[0.0, 0.0]]))  # all padding: no frame
    np.testing.assert_allclose(found.frames, [[0.5 / 1.5, 0.5 / 1.5]], rtol=1e-6)
    assert len(found) == 1


def test_cells_are_collected_by_what_was_predicted():
    found = Calibration()
    found.add(*maps([[0.12, 0.18, 0.55, 1.0]], [[0.0, 1.0, 0.5, 1.0]], [[1.0, 0.5, 1.0, 1.0]]))
    expected = [[0.14, 1 / 3, 1.5], [0.55, 0.5, 1.0], [1.0, 1.0, 1.0]]
    np.testing.assert_allclose(found.cell_bins(), expected, rtol=1e-5)
    errors = [(1 / 3 - 0.14) * 1.5, 0.05, 0.0]
    assert found.summary()['cell_error'] == pytest.approx(sum(errors) / 3.5, abs=1e-4)


def test_frames_are_binned_in_tenths_by_what_was_predicted():
    found = Calibration()
    shares = np.linspace(0.0, 0.4, 20)
    for share in shares[::-1]:
        found.add(*maps([[share]], [[share / 2]], [[1.0]]))
    bins = np.array(found.frame_bins())
    assert bins.shape == (10, 3)
    np.testing.assert_allclose(bins[:, 0], shares.reshape(10, 2).mean(1), atol=1e-6)
    np.testing.assert_allclose(bins[:, 1], bins[:, 0] / 2, atol=1e-6)
    summary = found.summary()
    assert summary['frame_error'] == pytest.approx(0.1, abs=1e-4)
    assert (summary['num_frames'], summary['mean_predicted'], summary['mean_true']) == (20, 0.2, 0.1)
    assert (summary['correlation'], summary['rank_correlation']) == (1.0, 1.0)


def test_correlation_is_pearsons_of_values_and_spearmans_of_ranks():
    rng = np.random.default_rng(0)
    values = rng.random((30, 2))
    values[:, 1] = 0.5 * values[:, 1] + 0.5 * values[:, 0] ** 4
    assert correlation(values) == pytest.approx(np.corrcoef(values.T)[0, 1])
    curved = Calibration()
    for value in np.linspace(0.1, 0.9, 9):
        curved.add(*maps([[value]], [[value**6]], [[1.0]]))
    summary = curved.summary()
    assert summary['rank_correlation'] == 1.0 and summary['correlation'] < 0.95


def test_what_cannot_be_told_is_none():
    nothing = Calibration().summary()
    assert nothing['num_frames'] == 0 and nothing['frame_bins'] == nothing['cell_bins'] == []
    assert all(nothing[name] is None for name in ('correlation', 'frame_error', 'cell_error', 'mean_true'))
    same = Calibration()
    for _ in range(3):
        same.add(*maps([[0.1]], [[0.2]], [[1.0]]))
    assert same.summary()['correlation'] is None


def test_parts_sum_up():
    rng = np.random.default_rng(1)
    whole, parts = Calibration(), [Calibration(), Calibration()]
    for number in range(6):
        values = maps(*rng.random((3, 2, 2)))
        whole.add(*values)
        parts[number // 3].add(*values)
    assert sum_of(parts).summary() == whole.summary()
