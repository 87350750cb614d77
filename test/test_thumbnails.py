# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Thumbnails: cuts, motion, exposure, noise, sizes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_ros.thumbnails import change, make_thumbnail


def picture(seed: int, height: int = 120, width: int = 160) -> np.ndarray:
    """Soft coloured blots, as large as things in a picture are."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (7, 9, 3)).astype(np.float32)
    rows, columns = np.linspace(0, 5.99, height), np.linspace(0, 7.99, width)
    low, left = rows.astype(int), columns.astype(int)
    down, right = (rows - low)[:, None, None], (columns - left)[None, :, None]
    above = coarse[low][:, left] * (1 - right) + coarse[low][:, left + 1] * right
    below = coarse[low + 1][:, left] * (1 - right) + coarse[low + 1][:, left + 1] * right
    return (above * (1 - down) + below * down).astype(np.uint8)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return change(make_thumbnail(one), make_thumbnail(other))


def test_the_same_picture_is_no_change_and_another_one_is_a_cut():
    assert difference(picture(0), picture(0)) == 0
    assert min(difference(picture(0), picture(seed)) for seed in range(1, 9)) > 0.9


@given(shift=st.tuples(st.integers(0, 8), st.integers(0, 10)))
def test_a_shift_by_a_fifteenth_of_the_picture_is_no_cut(shift):
    whole = picture(1, 140, 200)
    assert difference(whole[:120, :160], whole[shift[0] :, shift[1] :][:120, :160]) < 0.55


@pytest.mark.parametrize('gain', [0.5, 0.8, 1.3])
@pytest.mark.parametrize('offset', [-10, 0, 20])
def test_exposure_is_no_change(gain, offset):
    image = picture(2) // 2 + 32
    brighter = np.clip(image * gain + offset, 0, 255).astype(np.uint8)
    assert difference(image, brighter) < 0.05


def test_noise_of_a_bare_wall_is_no_cut_but_turning_to_it_is():
    rng = np.random.default_rng(0)
    walls = [np.clip(128 + rng.normal(0, 4, (120, 160, 3)), 0, 255).astype(np.uint8) for _ in range(2)]
    assert difference(*walls) < 0.4
    assert difference(picture(3), walls[0]) == difference(walls[0], picture(3)) > 0.9


def test_it_is_symmetric_and_the_size_of_the_picture_does_not_matter():
    small, large = picture(4), picture(4, 360, 480)
    assert difference(small, large) < 0.05
    assert difference(small, picture(5)) == difference(picture(5), small)


@pytest.mark.parametrize('size', [(16, 16), (17, 301), (240, 16)])
def test_any_image_size_has_a_thumbnail(size):
    assert difference(picture(6, *size), picture(6, *size)) == 0
    assert difference(picture(6, *size), picture(7, *size)) > 0.6
