# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""Position-sensitive pooling against slow loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip('torch')
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dff_ros.nets.psroi import cell_weights, pool, smooth_weights


def maps_of(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def slow_pool(maps, box, k):
    """One image: maps (Q k k, h, w), edges in cells -> (Q,), as the release's operator and vote."""
    height, width = maps.shape[1:]
    num = maps.shape[0] // (k * k)
    x1, y1, x2, y2 = (float(value) for value in box)
    total = np.zeros(num)
    for q in range(num):
        for row in range(k):
            for column in range(k):
                plane = maps[(q * k + row) * k + column]
                top, bottom = (
                    math.floor(y1 + row * (y2 - y1) / k),
                    math.ceil(y1 + (row + 1) * (y2 - y1) / k),
                )
                left, right = (
                    math.floor(x1 + column * (x2 - x1) / k),
                    math.ceil(x1 + (column + 1) * (x2 - x1) / k),
                )
                top, bottom = (min(max(value, 0), height) for value in (top, bottom))
                left, right = (min(max(value, 0), width) for value in (left, right))
                if bottom > top and right > left:
                    total[q] += float(plane[top:bottom, left:right].double().mean())
    return total / k**2


# Eighths are exact, so that floor and ceiling are those of the loop.
eighths = st.integers(-40, 200).map(lambda value: value / 8)


@given(
    corners=st.lists(st.tuples(eighths, eighths, eighths, eighths), min_size=1, max_size=4),
    size=st.sampled_from([(1, 1), (5, 9), (13, 7), (1, 6)]),
    k=st.sampled_from([1, 2, 4, 8]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_pooling_equals_a_slow_loop(corners, size, k, seed):
    maps = maps_of((1, 3 * k * k, *size), seed)
    boxes = torch.tensor([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners])
    found = pool(maps, boxes[None], k)
    expected = [slow_pool(maps[0], box, k) for box in boxes]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize('k', [3, 7])
def test_pooling_of_two_images_with_odd_bins(k):
    maps = maps_of((2, 2 * k * k, 9, 11), 5)
    generator = torch.Generator().manual_seed(k)
    first = torch.rand(2, 6, 2, generator=generator) * 8 - 1
    boxes = torch.cat((first, first + torch.rand(2, 6, 2, generator=generator) * 7 + 0.1), -1)
    expected = [[slow_pool(maps[b], box, k) for box in boxes[b]] for b in range(2)]
    np.testing.assert_allclose(pool(maps, boxes, k), expected, atol=1e-5)


def test_each_bin_reads_its_own_channel():
    k, maps = 3, torch.zeros(1, 2 * 9, 6, 6)
    maps[0, (1 * k + 2) * k + 0, 4:6, 0:2] = 9.0  # class 1, lowest row, leftmost column
    box = torch.tensor([[[0.0, 0, 6, 6]]])
    np.testing.assert_allclose(pool(maps, box, k)[0, 0], [0, 1.0], atol=1e-6)
    maps[0, (1 * k + 2) * k + 0] = 0.0
    maps[0, (1 * k + 0) * k + 2, 4:6, 0:2] = 9.0  # another bin's cells
    np.testing.assert_allclose(pool(maps, box, k)[0, 0], [0, 0], atol=1e-6)


@pytest.mark.parametrize('is_smooth', [False, True])
def test_boxes_outside_and_empty_ones_give_finite_values(is_smooth):
    maps = maps_of((1, 2 * 9, 5, 5))
    boxes = torch.tensor([[[-9.0, -9, -5, -4], [20, 0, 30, 4], [2, 2, 2, 2], [3, 3, 1, 1], [0, 0, 0, 0]]])
    assert torch.isfinite(pool(maps, boxes, 3, is_smooth)).all()
    if not is_smooth:
        np.testing.assert_array_equal(pool(maps, boxes[:, :2], 3), np.zeros((1, 2, 2)))


@pytest.mark.parametrize(('start', 'end'), [(0.3, 4.6), (-1.5, 0.2), (2.5, 2.6), (3.9, 8.0), (-2.0, 9.0)])
@pytest.mark.parametrize('num_cells', [1, 2, 6])
def test_smooth_weights_are_the_mean_of_the_interpolation(start, end, num_cells):
    k = 3
    found = smooth_weights(torch.tensor([[start]]), torch.tensor([[end]]), num_cells, k)[0, 0].double()
    value = maps_of((num_cells,), 3).double()
    for number in range(k):
        low, high = (start + (number + shift) * (end - start) / k for shift in (0, 1))
        position = low + (np.arange(20_000) + 0.5) * (high - low) / 20_000
        expected = np.interp(position, np.arange(num_cells) + 0.5, value.numpy()).mean()
        assert float(found[number] @ value) == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(found.sum(-1), np.ones(k), atol=1e-5)


def test_smooth_pooling_follows_a_box_within_its_cell():
    maps = torch.arange(8.0).repeat(8, 1)[None, None]  # a ramp: x - 1/2 between the centres
    for x in (2.0, 2.1, 2.35):
        box = torch.tensor([[[x, 3.0, x + 0.6, 3.6]]])
        assert float(pool(maps, box, 1, is_smooth=True)) == pytest.approx(x + 0.3 - 0.5, abs=1e-5)
    assert float(pool(maps, torch.tensor([[[2.1, 3.0, 2.7, 3.6]]]), 1)) == 2.0


def test_weights_of_whole_cells_by_hand():
    found = cell_weights(torch.tensor([[0.5]]), torch.tensor([[4.5]]), 5, 2)[0, 0]
    np.testing.assert_allclose(found, [[1 / 3] * 3 + [0, 0], [0, 0] + [1 / 3] * 3], atol=1e-6)


@pytest.mark.parametrize('is_smooth', [False, True])
def test_gradient_of_the_maps(is_smooth):
    maps = maps_of((1, 2 * 4, 4, 5)).requires_grad_()
    boxes = torch.tensor([[[0.3, 0.2, 4.1, 3.3], [-1.0, 1.0, 2.0, 9.0]]])
    weight = maps_of((1, 2, 2), 1)
    (pool(maps, boxes, 2, is_smooth) * weight).sum().backward()
    step = torch.zeros_like(maps.detach())
    for index in ((0, 0, 0, 0), (0, 3, 2, 3), (0, 6, 3, 1)):
        step.zero_()[index] = 1.0  # the function is linear
        change = ((pool(step, boxes, 2, is_smooth)) * weight).sum()
        assert float(maps.grad[index]) == pytest.approx(float(change), abs=1e-6)
    assert float(maps.grad.abs().max()) > 0.01


def test_half_precision_is_pooled_in_single():
    maps = maps_of((1, 4, 30, 30)) + 100
    box = torch.tensor([[[0.0, 0, 29.9, 29.9]]])
    with torch.autocast('cpu', torch.bfloat16):
        found = pool(maps, box, 2)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, pool(maps, box, 2), rtol=1e-6)
