# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Resampling and upsampling against their definitions, written out as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dff_ros import geometry
from dff_ros.errors import ConfigError

sides = st.integers(1, 70)


def resample(signal, num_out):
    index, weight = geometry.resample_taps(num_out, len(signal))
    return (weight * signal[index]).sum(axis=0)


@given(sides)
def test_same_size_is_the_identity(n):
    index, weight = geometry.resample_taps(n, n)
    assert index.tolist() == [list(range(n))]
    assert weight.tolist() == [[1.0] * n]


@given(sides, sides)
def test_weights_sum_to_one_inside_the_image(num_out, num_in):
    index, weight = geometry.resample_taps(num_out, num_in)
    assert index.min() >= 0 and index.max() < num_in
    np.testing.assert_allclose(weight.sum(axis=0), 1.0, rtol=1e-6)
    assert (weight >= 0).all()


@given(st.integers(2, 40), st.integers(2, 5))
def test_ramp_stays_a_ramp_when_enlarged(num_in, factor):
    num_out = num_in * factor
    position = (np.arange(num_out) + 0.5) / factor - 0.5
    np.testing.assert_allclose(
        resample(np.arange(num_in, dtype=np.float64), num_out), np.clip(position, 0, num_in - 1), atol=1e-5
    )


def test_halving_averages_with_a_triangle():
    # scale 2: weights 1/8, 3/8, 3/8, 1/8 at distances -1.5, -0.5, 0.5, 1.5; outside taps are left out
    out = resample(np.array([0.0, 0, 8, 8, 0, 0, 0, 0]), 4)
    np.testing.assert_allclose(out, [8 / 7, 6, 1, 0], atol=1e-6)


@pytest.mark.parametrize(('num_out', 'num_in'), [(31, 64), (360, 720), (17, 640)])
def test_shrinking_equals_pillow(num_out, num_in):
    image_module = pytest.importorskip('PIL.Image')
    signal = np.random.default_rng(num_out).random(num_in).astype(np.float32)
    pillow = image_module.fromarray(signal[None]).resize((num_out, 1), image_module.Resampling.BILINEAR)
    np.testing.assert_allclose(resample(signal, num_out), np.asarray(pillow)[0], atol=2e-5)


@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 4, 16]))
def test_upsampling_follows_the_grid_convention(num_out, num_net, stride):
    """Values i at cells i: the output is the position of the pixel in cells, clamped."""
    matrix = geometry.upsample_matrix(num_out, num_net, stride)
    num_cells = math.ceil(num_net / stride)
    assert matrix.shape == (num_out, num_cells)
    expected = [
        min(max(((y + 0.5) * num_net / num_out - 0.5) / stride, 0), num_cells - 1) for y in range(num_out)
    ]
    np.testing.assert_allclose(matrix @ np.arange(num_cells), expected, atol=1e-4)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, rtol=1e-6)


def test_pixel_at_a_cell_centre_takes_that_cell():
    matrix = geometry.upsample_matrix(360, 360, 16)
    assert matrix[32].tolist() == [0, 0, 1] + [0] * 20
    assert matrix[40].tolist() == [0, 0, 0.5, 0.5] + [0] * 19


def test_shared_arrays_cannot_be_changed():
    with pytest.raises(ValueError, match='read-only'):
        geometry.upsample_matrix(8, 8, 4)[0] = 1
    with pytest.raises(ValueError, match='read-only'):
        geometry.resample_taps(8, 4)[1][0] = 1


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        ((360, 480), (360, 480)),  # the nominal size is never rounded
        ((720, 960), (360, 480)),
        ((720, 1280), (312, 552)),  # 311.8 x 554.3
        ((540, 960), (312, 552)),
        ((240, 320), (360, 480)),
        ((16, 4000), (24, 6576)),
    ],
)
def test_network_size_keeps_area_and_aspect(source, expected):
    assert geometry.network_size(source, (360, 480)) == expected


def test_grid_size_rounds_up():
    assert geometry.grid_size((360, 480), 16) == (23, 30)


def test_bad_sizes_are_refused():
    with pytest.raises(ConfigError, match='positive'):
        geometry.network_size((0, 4), (360, 480))
    with pytest.raises(ConfigError, match='cannot resize'):
        geometry.resample_taps(0, 4)
    with pytest.raises(ConfigError, match='cannot upsample'):
        geometry.upsample_matrix(4, 0, 16)
