# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""The calibration of a label map: pixels of any output, of a part of an image and of a binned one."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_ros.camera_info import UNCALIBRATED, UNFIT, CameraInfoError, intrinsics_of

K = [600.0, 0.0, 321.5, 0.0, 610.0, 242.0, 0.0, 0.0, 1.0]
P = [580.0, 0.0, 318.0, -58.0, 0.0, 590.0, 240.0, 5.9, 0.0, 0.0, 1.0, 0.0]


def info(size=(480, 640), roi=(0, 0, 0, 0), binning=(0, 0), k=K, p=P):
    """What a driver publishes; `roi` is (x_offset, y_offset, height, width), `binning` (x, y)."""
    region = dict(zip(('x_offset', 'y_offset', 'height', 'width'), roi, strict=True))
    return SimpleNamespace(
        height=size[0], width=size[1], k=np.array(k), p=np.array(p), roi=SimpleNamespace(**region),
        binning_x=binning[0], binning_y=binning[1],
    )  # fmt: skip


def test_a_label_map_of_the_size_of_the_image_keeps_every_number():
    found = intrinsics_of(info(), (480, 640), (480, 640))
    assert found.size == (480, 640)
    assert found.k_33.ravel().tolist() == K
    assert found.p_34.ravel().tolist() == P


def test_focal_lengths_centre_and_baseline_are_scaled_by_the_ratio_of_the_sides():
    """As image_proc's ResizeNode does it (image_proc/src/resize.cpp, `imageCb`): k[0], k[2], p[0], p[2] and
    p[3] times the ratio of the widths, k[4], k[5], p[5] and p[6] times that of the heights, and no half pixel
    anywhere. It leaves p[7] alone, which is the baseline of cameras one above the other.
    """
    found = intrinsics_of(info(), (480, 640), (200, 400))
    x, y = 400 / 640, 200 / 480
    assert found.size == (200, 400)
    expected = [600 * x, 0, 321.5 * x, 0, 610 * y, 242 * y, 0, 0, 1]
    np.testing.assert_allclose(found.k_33.ravel(), expected, rtol=1e-15)
    expected = [580 * x, 0, 318 * x, -58 * x, 0, 590 * y, 240 * y, 5.9 * y, 0, 0, 1, 0]
    np.testing.assert_allclose(found.p_34.ravel(), expected, rtol=1e-15)
    assert (
        intrinsics_of(info(), (480, 640), (240, 320)).k_33[0, 2] == 160.75
    )  # not 160.5 by half-pixel centres


@pytest.mark.parametrize(
    ('whole', 'roi', 'binning', 'image', 'centre'),
    [
        ((480, 640), (0, 0, 0, 0), (2, 2), (240, 320), (321.5 / 2, 242 / 2)),
        ((480, 640), (0, 0, 0, 0), (2, 1), (480, 320), (321.5 / 2, 242)),
        ((480, 640), (100, 40, 400, 500), (0, 0), (400, 500), (221.5, 202)),
        ((480, 640), (100, 40, 400, 500), (4, 2), (200, 125), (221.5 / 4, 101)),
        ((481, 643), (0, 0, 0, 0), (3, 3), (160, 214), (321.5 / 3, 242 / 3)),
        ((480, 640), (0, 0, 480, 640), (1, 1), (480, 640), (321.5, 242)),
    ],
    ids=['binned', 'binned across', 'region', 'binned region', 'what is left over', 'region of all'],
)
def test_region_and_binning_are_taken_in(whole, roi, binning, image, centre):
    found = intrinsics_of(info(whole, roi, binning), image, image)
    assert found.size == image
    np.testing.assert_allclose(found.k_33[:2, 2], centre, rtol=1e-12)
    step = [max(side, 1) for side in binning]
    np.testing.assert_allclose(found.k_33.diagonal(), [600 / step[0], 610 / step[1], 1], rtol=1e-12)
    half = intrinsics_of(info(whole, roi, binning), image, (image[0] // 2, image[1] // 2))
    np.testing.assert_allclose(half.k_33[0] / (image[1] // 2), found.k_33[0] / image[1], rtol=1e-12)


@given(
    point=st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.5, 50)),
    offset=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    binning=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    output=st.tuples(st.integers(1, 900), st.integers(1, 900)),
)
def test_a_point_falls_on_the_pixel_that_shows_it(point, offset, binning, output):
    size = 120 * binning[1], 160 * binning[0]
    camera = info((480 + 100, 640 + 100), (*offset, *size), binning)
    found = intrinsics_of(camera, (120, 160), output)
    ratio = output[1] / 160, output[0] / 120
    for matrix, of_output in ((np.reshape(K, (3, 3)), found.k_33), (np.reshape(P, (3, 4)), found.p_34)):
        ray = np.array((*point, 1.0)[: matrix.shape[1]])
        whole, seen = matrix @ ray, of_output @ ray
        for axis in (0, 1):
            expected = (whole[axis] / whole[2] - offset[axis]) / binning[axis] * ratio[axis]
            np.testing.assert_allclose(seen[axis] / seen[2], expected, rtol=1e-9, atol=1e-6)


def changed(values: list[float], index: int, value: float) -> list[float]:
    return [*values[:index], value, *values[index + 1 :]]


@pytest.mark.parametrize(
    ('camera', 'state', 'text'),
    [
        (info((720, 1280)), UNFIT, '1280x720 pixels with binning 1x1, but the image has 640x480: remap'),
        (info((0, 0)), UNFIT, '0x0 pixels'),
        (info(binning=(2, 2)), UNFIT, 'binning 2x2'),
        (info(roi=(0, 0, 240, 320)), UNFIT, '320x240 pixels'),
        (info(k=[0.0] * 9, p=[0.0] * 12), UNCALIBRATED, r'fx 0, fy 0.*camera_info_url'),
        (info(k=changed(K, 4, 0.0)), UNCALIBRATED, 'fy 0'),
        (info(k=changed(K, 0, -600.0)), UNCALIBRATED, 'fx -600'),
        (info(k=changed(K, 2, float('nan'))), UNCALIBRATED, 'no calibration'),
        (info(k=changed(K, 0, float('inf'))), UNCALIBRATED, 'fx inf'),
        (info(p=changed(P, 3, float('nan'))), UNCALIBRATED, 'no calibration'),
    ],
)  # fmt: skip
def test_a_calibration_that_cannot_be_used_is_refused_with_the_remedy(camera, state, text):
    with pytest.raises(CameraInfoError, match=text) as caught:
        intrinsics_of(camera, (480, 640), (480, 640))
    assert caught.value.state == state
