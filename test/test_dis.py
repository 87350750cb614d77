# Copyright 2026 dff_ros maintainers
# SPDX-License-Identifier: Apache-2.0

"""DIS flow on the feature grid: direction, units, cell centres, edges and small images, by value."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip('cv2')
import cv2
from tiny_models import moving_clip, texture

from dff_ros.backends.dis import DisFlow
from dff_ros.backends.flow import motion_px

STRIDE = 16


def flow_of(current: np.ndarray, key: np.ndarray, network: tuple[int, int]) -> np.ndarray:
    dis = DisFlow(STRIDE, num_threads=1)
    return dis.flow(dis.prepare(current, network), dis.prepare(key, network), network)


@pytest.mark.parametrize('step_xy', [(8, 0), (0, 6), (-6, 4)])
@pytest.mark.parametrize('size', [(160, 240), (151, 233)])
def test_flow_points_from_the_current_frame_into_the_key_frame(size, step_xy):
    key, current = moving_clip(size, 2, step_xy)
    # The camera moved by step: current[p] shows canvas[p + step], which the key frame had at p + step.
    np.testing.assert_array_equal(current[40, 60], key[40 + step_xy[1], 60 + step_xy[0]])
    flow = flow_of(current, key, size)
    assert flow.shape == (2, 10, 15)
    assert flow.dtype == np.float32
    inner = flow[:, 2:-2, 2:-2] * STRIDE
    assert np.abs(inner[0] - step_xy[0]).max() < 0.5
    assert np.abs(inner[1] - step_xy[1]).max() < 0.5


def test_cells_count_network_pixels_whatever_the_size_of_the_source():
    key, current = moving_clip((320, 480), 2, (16, -8))
    flow = flow_of(current, key, (160, 240))[:, 2:-2, 2:-2]
    assert np.abs(flow[0] - 0.5).max() < 0.05  # 16 source pixels are 8 network pixels, half a cell
    assert np.abs(flow[1] + 0.25).max() < 0.05


def test_the_flow_of_a_cell_is_that_around_its_centre():
    # A zoom about (0, 0): the flow at pixel p is -0.06 p, so that of cell i is -0.06 i cells.
    key = texture((240, 320))
    zoom = np.array([[1 / 1.06, 0, 0], [0, 1 / 1.06, 0]])
    current = cv2.warpAffine(key, zoom, (320, 240), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    flow = flow_of(current, key, (240, 320))
    columns, rows = np.arange(20)[None, :], np.arange(15)[:, None]
    assert np.abs(flow[0] - (1 / 1.06 - 1) * columns)[1:-2, 1:-2].max() < 0.06
    assert np.abs(flow[1] - (1 / 1.06 - 1) * rows)[1:-2, 1:-2].max() < 0.06


def test_equal_and_flat_images_have_no_flow():
    image = texture((96, 128))
    assert np.all(flow_of(image, image, (96, 128)) == 0)
    flat = np.full((96, 128, 3), 90, np.uint8)
    assert np.all(flow_of(flat, flat, (96, 128)) == 0)


def test_the_same_images_give_the_same_flow_whatever_the_threads():
    key, current = moving_clip((160, 240), 2, (5, 3))
    flows = []
    for num_threads in (1, 2, 2):
        dis = DisFlow(STRIDE, num_threads)
        flows.append(dis.flow(*(dis.prepare(image, (160, 240)) for image in (current, key)), (160, 240)))
    np.testing.assert_array_equal(flows[0], flows[1])
    np.testing.assert_array_equal(flows[1], flows[2])


@pytest.mark.parametrize('network', [(16, 16), (16, 600), (24, 40), (600, 16), (33, 47)])
def test_small_and_narrow_images_have_finite_flow(network):
    key, current = moving_clip(network, 2, (1, 0))
    flow = flow_of(current, key, network)
    assert flow.shape == (2, -(-network[0] // 16), -(-network[1] // 16))
    assert np.isfinite(flow).all()
    assert np.abs(flow).max() < 1


def test_motion_is_the_95th_percentile_in_source_pixels():
    flow = np.zeros((2, 10, 10), np.float32)
    flow[0].flat[:] = np.arange(100) / 100
    # 0.94 + 0.05 * 0.01 interpolated at rank 94.05, times 16 network pixels, times 2 source pixels for each.
    assert motion_px(flow, 16, (200, 320), (100, 160)) == pytest.approx(0.9405 * 32, rel=1e-5)
    flow[:] = np.array([3.0, 4.0])[:, None, None] / 16
    assert motion_px(flow, 16, (100, 160), (100, 160)) == pytest.approx(5.0)
    assert motion_px(flow, 16, (100, 320), (100, 160)) == pytest.approx(np.hypot(6, 4))
