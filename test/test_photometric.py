# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The photometric error of a warp, by value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_ros.backends.photometric import MAX_RESIDUAL, cell_brightness, warp_residual

GRID = (6, 8)


def flow(x: float, y: float, grid: tuple[int, int] = GRID) -> np.ndarray:
    return np.broadcast_to(np.array([x, y], np.float32)[:, None, None], (2, *grid)).copy()


def ones(grid: tuple[int, int] = GRID) -> np.ndarray:
    return np.ones(grid, np.float32)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, GRID).astype(np.float32)


def test_the_right_flow_has_no_residual_where_it_covers_and_the_wrong_one_has():
    key = noise()
    current = np.roll(key, (-1, -2), axis=(0, 1))  # what is at p now was at p + (2, 1) in the key frame
    inside = ones()
    inside[-1], inside[:, -2:] = 0, 0
    assert warp_residual(current, key, flow(2, 1), inside) == 0
    wrong = warp_residual(current, key, flow(0, 0), inside)
    error = (current - key)[:-1, :-2]
    assert wrong == pytest.approx(np.abs(error - np.median(error)).mean(), rel=1e-5)
    assert wrong > 50


def test_half_a_cell_of_flow_samples_halfway():
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32) * 10, GRID)
    steps = np.zeros(GRID, np.float32)
    steps[:, 4:] = 8
    # Halfway along a ramp is 5 grey levels more everywhere but in the last column: the median is 5.
    assert warp_residual(ramp, ramp, flow(0.5, 0), ones()) == pytest.approx(5 / 8)
    assert warp_residual(ramp + steps, ramp, flow(0, 0), ones()) == pytest.approx(
        4
    )  # median 4: all are 4 off


def test_cells_count_by_their_validity():
    key = np.zeros(GRID, np.float32)
    current = key.copy()
    current[0, 0] = 90
    weights = ones()
    assert warp_residual(current, key, flow(0, 0), weights) == pytest.approx(90 / 48)
    weights[0, 0] = 0.5
    assert warp_residual(current, key, flow(0, 0), weights) == pytest.approx(45 / 47.5)
    weights[0, 0] = 0
    assert warp_residual(current, key, flow(0, 0), weights) == 0
    assert warp_residual(current, key, flow(0, 0), 0 * weights) == MAX_RESIDUAL


@given(offset=st.floats(-100, 100))
def test_exposure_is_no_residual(offset):
    assert warp_residual(noise() + np.float32(offset), noise(), flow(0, 0), ones()) < 1e-4


@pytest.mark.parametrize('source', [(96, 128), (192, 256), (480, 640), (50, 67), (16, 16)])
def test_brightness_is_that_around_the_centre_of_each_cell(source):
    """A ramp of 128 levels over the width: cell i is centred on network pixel 16 i of 128."""
    ramp = np.broadcast_to(np.arange(source[1])[None, :, None] * 128 // source[1], (*source, 3))
    cells = cell_brightness(np.ascontiguousarray(ramp, np.uint8), (96, 128), 16)
    assert cells.shape == (6, 8)
    np.testing.assert_allclose(cells[:, 1:], np.broadcast_to(16.0 * np.arange(1, 8), (6, 7)), atol=4.5)
    assert np.all(np.diff(cells, axis=1) > 0)
