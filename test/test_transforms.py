# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Paired transforms: values of image and labels under scale, crop, flip and colour changes."""

import numpy as np
import pytest

from dff_ros.config import replace
from dff_ros.data.augment_config import AugmentConfig
from dff_ros.data.samples import Sample
from dff_ros.data.transforms import (
    Placement,
    augment,
    change_colours,
    draw_colour_matrix,
    draw_placement,
    place,
)

STILL = AugmentConfig(
    scale_min=1.0, scale_max=1.0, flip=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, gamma=0.0,
    blur=0.0, noise=0.0,
)  # fmt: skip
PADDING = (124, 116, 104)


def sample_of(height: int = 24, width: int = 32, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    return Sample(
        's',
        rng.integers(0, 256, (height, width, 3), np.uint8),
        rng.integers(0, 11, (height, width), np.uint8),
    )


def blocks(cell: int = 8, rows: int = 6, columns: int = 8) -> Sample:
    """Large blocks whose red value tells their class: 20 x class."""
    labels = np.random.default_rng(1).integers(0, 11, (rows, columns)).astype(np.uint8)
    labels = labels.repeat(cell, 0).repeat(cell, 1)
    return Sample('b', np.repeat(labels[..., None] * np.uint8(20), 3, 2), labels)


def rng_of(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_all_zero_settings_are_the_identity():
    sample = sample_of()
    image, labels = augment(STILL, rng_of(), sample, (24, 32))
    np.testing.assert_array_equal(image, sample.image_HW3)
    np.testing.assert_array_equal(labels, sample.labels_HW)


@pytest.mark.parametrize(('width', 'crop'), [(32, (24, 32)), (31, (24, 31)), (32, (10, 13))])
def test_a_flip_mirrors_image_and_labels(width: int, crop: tuple[int, int]):
    sample = sample_of(width=width)
    plain, flipped = (
        place(sample, Placement(1.0, (3.0, 2.0), is_flipped), crop) for is_flipped in (False, True)
    )
    np.testing.assert_array_equal(flipped[0], plain[0][:, ::-1])
    np.testing.assert_array_equal(flipped[1], plain[1][:, ::-1])


def test_an_offset_is_a_crop():
    sample = sample_of()
    image, labels = place(sample, Placement(1.0, (5.0, 2.0), False), (12, 16))
    np.testing.assert_array_equal(image, sample.image_HW3[2:14, 5:21])
    np.testing.assert_array_equal(labels, sample.labels_HW[2:14, 5:21])


def test_outside_the_source_are_mean_colour_and_no_label():
    sample = sample_of(height=8, width=8)
    image, labels = place(sample, Placement(1.0, (-2.0, -3.0), False), (16, 16))
    np.testing.assert_array_equal(labels[3:11, 2:10], sample.labels_HW)
    np.testing.assert_array_equal(image[3:11, 2:10], sample.image_HW3)
    outside = np.ones((16, 16), bool)
    outside[3:11, 2:10] = False
    assert set(labels[outside].tolist()) == {255}
    assert (image[outside] == PADDING).all()


def test_doubling_repeats_labels_and_interpolates_pixel_centres():
    sample = sample_of(height=6, width=6)
    image, labels = place(sample, Placement(2.0, (0.0, 0.0), False), (12, 12))
    np.testing.assert_array_equal(labels, sample.labels_HW.repeat(2, 0).repeat(2, 1))
    # Output pixel 3 lies on source position (3 + 0.5) / 2 - 0.5 = 1.25.
    source = sample.image_HW3.astype(float)
    rows = 0.75 * source[1] + 0.25 * source[2]
    np.testing.assert_allclose(image[3, 3], 0.75 * rows[1] + 0.25 * rows[2], atol=1.0)


@pytest.mark.parametrize('seed', range(12))
def test_labels_stay_on_their_image_under_scale_crop_and_flip(seed: int):
    config = replace(STILL, {'scale_min': 0.5, 'scale_max': 2.0, 'flip': 0.5})
    image, labels = augment(config, rng_of(seed), blocks(16), (60, 70))
    inner = labels != 255
    for shift in np.ndindex(3, 3):  # away from edges between blocks
        inner &= labels == np.roll(labels, (shift[0] - 1, shift[1] - 1), (0, 1))
    inner[[0, -1]] = inner[:, [0, -1]] = False
    assert inner.sum() > 200
    np.testing.assert_array_equal(image[inner][:, 0], labels[inner] * 20)


def test_placements_keep_as_much_of_the_source_as_fits():
    config = replace(STILL, {'scale_min': 0.5, 'scale_max': 2.0, 'flip': 0.5})
    placements = [draw_placement(config, rng_of(seed), (40, 60), (30, 50)) for seed in range(200)]
    for placement in placements:
        for side, crop, offset in ((40, 30, placement.offset_xy[1]), (60, 50, placement.offset_xy[0])):
            room = side * placement.scale - crop
            assert min(room, 0) - 0.5 <= offset <= max(room, 0) + 0.5
    scales = np.array([placement.scale for placement in placements])
    assert 0.5 <= scales.min() < 0.6
    assert 1.8 < scales.max() <= 2.0
    assert abs(np.log(scales).mean()) < 0.1  # as often smaller as larger
    assert 70 < sum(placement.is_flipped for placement in placements) < 130


def test_a_seed_gives_one_result():
    sample, config = sample_of(), AugmentConfig()
    first, again, other = (augment(config, rng_of(seed), sample, (20, 20)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize('name', ['brightness', 'contrast', 'saturation', 'hue', 'gamma', 'blur', 'noise'])
def test_colour_changes_leave_labels_alone(name: str):
    config = replace(STILL, {name: 1.0 if name in ('blur', 'noise') else 20.0 if name == 'hue' else 0.5})
    sample = sample_of()
    image, labels = augment(config, rng_of(2), sample, (24, 32))
    np.testing.assert_array_equal(labels, sample.labels_HW)
    assert np.abs(image.astype(int) - sample.image_HW3).max() > 3


def test_contrast_keeps_the_mean_grey_and_brightness_multiplies():
    grey = np.full(3, 100.0)
    matrix = draw_colour_matrix(replace(STILL, {'contrast': 0.5}), rng_of(1), mean_grey=100.0)
    np.testing.assert_allclose(matrix @ [*grey, 1], grey, rtol=1e-9)
    factor = (matrix @ [*(grey + 10), 1] - grey)[0] / 10
    assert 0.5 <= factor <= 1.5
    assert abs(factor - 1) > 0.01
    bright = draw_colour_matrix(replace(STILL, {'brightness': 0.5}), rng_of(1), mean_grey=100.0)
    np.testing.assert_allclose(bright @ [10, 20, 40, 1], bright[0, 0] * np.array([10, 20, 40]), atol=1e-9)


def test_hue_and_saturation_keep_grey_grey_and_the_luma_of_colours():
    config = replace(STILL, {'hue': 60.0, 'saturation': 0.8})
    for seed in range(5):
        matrix = draw_colour_matrix(config, rng_of(seed), mean_grey=0.0)
        np.testing.assert_allclose(matrix @ [70, 70, 70, 1], [70, 70, 70], atol=0.2)
        luma = np.array([0.299, 0.587, 0.114])
        assert luma @ (matrix @ [200, 30, 90, 1]) == pytest.approx(luma @ [200, 30, 90], abs=0.2)


def test_gamma_keeps_black_and_white():
    image = np.array([[[0, 128, 255]] * 4] * 4, np.uint8)
    changed = change_colours(replace(STILL, {'gamma': 1.0}), rng_of(3), image)
    assert changed[0, 0, 0] == 0
    assert changed[0, 0, 2] == 255
    assert changed[0, 0, 1] != 128
