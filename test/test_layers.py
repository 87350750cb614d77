# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Textured layers: the flow is exact, validity ends where something else is seen or the image does."""

import numpy as np
import pytest
from made_layers import smooth_texture, warped_key

from dff_ros.data.layers import Layer, Motion, render

SIZE = (72, 96)


def shift(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], float)


def placed(x: float = 40.0, y: float = 30.0, scale: float = 1.0) -> np.ndarray:
    return np.array([[scale, 0, x], [0, scale, y]])


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """All pixels from left to right and top to bottom, both included."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def background(motion: Motion, scale: float = 1.0) -> Layer:
    return Layer(smooth_texture(1), placed(scale=scale), motion)


def test_identity_motion_gives_zero_flow_and_equal_images():
    patch = Layer(smooth_texture(2), placed(), Motion(np.eye(3)), rectangle(20, 20, 50, 40))
    pair = render([background(Motion(np.eye(3))), patch], SIZE)
    assert np.abs(pair.flow_2HW).max() == 0.0
    np.testing.assert_array_equal(pair.current_HW3, pair.key_HW3)
    assert pair.is_visible_HW.all()
    np.testing.assert_array_equal(pair.key_HW3[25, 30], patch.texture_HW3[25 + 30, 30 + 40])
    np.testing.assert_array_equal(pair.key_HW3[5, 5], smooth_texture(1)[5 + 30, 5 + 40])


def test_a_known_translation_is_its_flow_and_shifts_the_picture():
    pair = render([background(Motion(shift(5, -3)))], SIZE)
    np.testing.assert_array_equal(pair.flow_2HW[0], np.full(SIZE, 5, np.float32))
    np.testing.assert_array_equal(pair.flow_2HW[1], np.full(SIZE, -3, np.float32))
    np.testing.assert_array_equal(pair.current_HW3[3:, :-5], pair.key_HW3[:-3, 5:])
    expected = np.zeros(SIZE, bool)
    expected[3:, :-5] = True  # what comes from outside of the key image is not valid
    np.testing.assert_array_equal(pair.is_visible_HW, expected)


def test_flow_of_a_homography_by_hand():
    zoom = np.array([[1.25, 0, -10], [0, 1.25, -8], [0, 0, 1]])  # around (40, 32)
    pair = render([background(Motion(zoom))], SIZE)
    np.testing.assert_allclose(pair.flow_2HW[:, 32, 40], [0, 0], atol=1e-5)
    np.testing.assert_allclose(pair.flow_2HW[:, 52, 20], [-5, 5], atol=1e-5)
    tilt = np.array([[1, 0, 0], [0, 1, 0], [0.01, 0, 1]])
    np.testing.assert_allclose(
        render([background(Motion(tilt))], SIZE).flow_2HW[:, 50, 25],
        [25 / 1.25 - 25, 50 / 1.25 - 50],
        atol=1e-4,
    )


@pytest.mark.parametrize(
    'motion',
    [
        Motion(shift(3.4, -2.7)),
        Motion(np.array([[1.04, 0.05, -4.0], [-0.05, 1.04, 2.5], [4e-4, -2e-4, 1]])),
        Motion(shift(-2.2, 1.6), np.random.default_rng(3).uniform(-3, 3, (4, 5, 2)).astype(np.float32)),
    ],
    ids=['shift', 'homography', 'bend'],
)
def test_the_warped_key_image_is_the_current_one_where_valid(motion: Motion):
    patch = Layer(
        smooth_texture(2),
        placed(20, 10, 1.3),
        Motion(shift(-6.3, 4.2) @ motion.homography),
        rectangle(30, 20, 60, 50),
    )
    pair = render([background(motion, 0.8), patch], SIZE)
    error = np.abs(warped_key(pair) - pair.current_HW3).max(axis=-1)
    assert 0.7 < pair.is_visible_HW.mean() < 1
    assert error[pair.is_visible_HW].max() < 6.0  # 8 bits, and two bilinear samples of a curved texture
    assert error[pair.is_visible_HW].mean() < 1.0
    assert np.abs(pair.key_HW3.astype(float) - pair.current_HW3).mean() > 4.0  # zero flow does not explain it


def test_what_a_patch_hides_in_the_key_image_is_not_valid():
    """A patch that was 10 pixels further right: uncovered background there, a stripe of it is occluded."""
    patch = Layer(smooth_texture(2), placed(), Motion(shift(10, 0)), rectangle(40, 20, 59, 39))
    pair = render([background(Motion(np.eye(3))), patch], SIZE)
    expected = np.ones(SIZE, bool)
    expected[20:40, 50:60] = False  # background now, patch in the key image
    np.testing.assert_array_equal(pair.is_visible_HW, expected)
    is_patch = np.zeros(SIZE, bool)
    is_patch[20:40, 30:50] = True
    np.testing.assert_array_equal(pair.flow_2HW[0], np.where(is_patch, np.float32(10), np.float32(0)))


def test_a_patch_that_hides_its_own_background_keeps_the_order_of_layers():
    below = Layer(smooth_texture(2), placed(), Motion(shift(10, 0)), rectangle(40, 20, 59, 39))
    above = Layer(smooth_texture(3), placed(), Motion(np.eye(3)), rectangle(50, 20, 59, 39))
    pair = render([background(Motion(np.eye(3))), below, above], SIZE)
    # The right half of `below` is hidden in the key image; now it is at columns 40 to 49.
    assert not pair.is_visible_HW[20:40, 40:50].any()
    assert pair.is_visible_HW[20:40, 30:40].all()
    assert (pair.flow_2HW[0, 20:40, 50:60] == 0).all()
    np.testing.assert_array_equal(pair.current_HW3[25, 55], pair.key_HW3[25, 55])


def test_a_patch_may_come_in_from_outside():
    patch = Layer(smooth_texture(2), placed(), Motion(shift(-15, 0)), rectangle(-15, 20, -1, 39))
    pair = render([background(Motion(np.eye(3))), patch], SIZE)
    assert (pair.flow_2HW[0, 20:40, :15] == -15).all()
    assert not pair.is_visible_HW[20:40, :15].any()
    assert pair.is_visible_HW.sum() == SIZE[0] * SIZE[1] - 20 * 15
